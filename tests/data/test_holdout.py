from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spry.core.errors import DataError
from spry.core.keys import Key
from spry.data.dataset import Dataset
from spry.data.holdout import hold_out, hold_out_validation, stratified


@settings(max_examples=60, deadline=None)
@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=80), fraction=st.floats(0.01, 0.99))
def test_each_class_is_divided_in_proportion_and_none_vanishes(labels, fraction):
    kept, held = stratified(labels, fraction, Key(1))
    assert sorted(kept + held) == list(range(len(labels)))
    assert (kept, held) == (sorted(kept), sorted(held))
    counts = Counter(labels)
    for label, count in Counter(labels[place] for place in held).items():
        assert count == min(round(fraction * counts[label]), counts[label] - 1)
    assert {labels[place] for place in kept} == set(labels)


@pytest.mark.parametrize("fraction", [-0.1, 0.0, 1.0, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(DataError, match="above 0 and below 1"):
        stratified([0, 1], fraction, Key(0))


def test_no_text_is_on_both_sides():
    texts = [f"text {number % 10}" for number in range(40)]
    labels = [number % 2 for number in range(40)]
    found = hold_out(Dataset(name="t", texts=texts, labels=labels, label_names=("a", "b")), 0.1)
    assert found.test is not None
    assert not set(found.train.texts) & set(found.test.texts)


def test_holding_out_nothing_is_refused():
    with pytest.raises(DataError, match=r"no test part .* the commonest, 'a', has only 1 example of 2"):
        hold_out(Dataset(name="t", texts=["a", "b"], labels=[0, 1], label_names=("a", "b")), 0.2)


@pytest.mark.parametrize("more", [[], ["z"]])
def test_duplicates_that_leave_nothing_to_train_on_are_named(more):
    texts = ["x", "y"] * 20 + more
    labels = [0, 1] * 20 + [0] * len(more)
    with pytest.raises(
        DataError, match=rf"examples are duplicates: .* 32 have the same text.*so {len(more)} are left"
    ):
        hold_out(Dataset(name="t", texts=texts, labels=labels, label_names=("a", "b")), 0.2)


def test_dropped_duplicates_are_counted():
    texts = [f"text {number % 50}" for number in range(60)]
    whole = Dataset(name="t", texts=texts, labels=[k % 2 for k in range(60)], label_names=("a", "b"))
    found = hold_out(whole, 0.5)
    assert found.test is not None
    assert found.duplicates == 60 - len(found.train) - len(found.test) > 0
    assert found.facts.lines()[-1] == f"left out: {found.duplicates} duplicates of held-out texts"


def test_parts_of_other_names_are_drawn_independently():
    texts = [f"text {number}" for number in range(200)]
    whole = Dataset(name="t", texts=texts, labels=[k % 2 for k in range(200)], label_names=("a", "b"))
    test, again, validation = (
        hold_out(whole, 0.5, *part).test for part in ([], ["test part"], ["validation part"])
    )
    assert test is not None
    assert again is not None
    assert validation is not None
    assert list(test.texts) == list(again.texts)
    assert 20 < len(set(test.texts) & set(validation.texts)) < 80  # 50, were it chance


def test_a_validation_part_is_taken_from_the_training_part_and_the_test_part_stays():
    texts = [f"text {number % 90}" for number in range(100)]
    splits = hold_out(
        Dataset(name="t", texts=texts, labels=[k % 2 for k in range(100)], label_names=("a", "b")), 0.2
    )
    found = hold_out_validation(splits, 0.25)
    assert found.test is splits.test
    assert found.validation is not None
    for one, other in ((found.train, found.validation), (found.validation, found.test)):
        assert not set(one.texts) & set(other.texts)
    dropped = len(splits.train) - len(found.train) - len(found.validation)
    assert found.duplicates == splits.duplicates + dropped > splits.duplicates
    assert found.facts.validation == found.validation.counts
    assert f", {len(found.validation)} held out to validate on" in found.facts.lines()[0]
    assert found.fingerprint != splits.fingerprint
    assert found.validation.texts == hold_out(splits.train, 0.25, "validation part").test.texts
