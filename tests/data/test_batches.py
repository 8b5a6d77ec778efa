from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spry.core.errors import DataError
from spry.core.keys import Key
from spry.data.batches import EvaluationBatches, TrainingBatches
from spry.data.encoded import Encoded


def make(lengths) -> Encoded:
    """Example ``i`` has the label ``i``, so that batches tell whom they hold."""
    return Encoded(
        fields={"input_ids": torch.ones(sum(lengths), dtype=torch.int32)},
        starts=np.cumsum([0, *lengths], dtype=np.int64),
        labels=torch.arange(len(lengths), dtype=torch.int32),
        pad=0,
    )


def held(batches) -> list[list[int]]:
    return [batch["labels"].tolist() for batch in batches]


@settings(max_examples=50, deadline=None)
@given(count=st.integers(0, 20), batch_size=st.integers(1, 9), epochs=st.integers(1, 3))
def test_each_epoch_holds_each_example_once(count, batch_size, epochs):
    places = [2 * place for place in range(count)]
    batches = TrainingBatches(
        data=make([3] * 40), places=places, key=Key(0), batch_size=batch_size, epochs=epochs
    )
    found = held(batches)
    assert len(found) == len(batches)
    per_epoch = len(found) // epochs
    for epoch in range(epochs):
        assert sorted(chain(*found[epoch * per_epoch : (epoch + 1) * per_epoch])) == places
    assert held(batches) == found


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 20), batch_size=st.integers(1, 9), steps=st.integers(1, 30))
def test_steps_go_through_the_examples_as_often_as_needed(count, batch_size, steps):
    data, places = make([3] * 20), range(count)
    found = held(TrainingBatches(data=data, places=places, key=Key(0), batch_size=batch_size, steps=steps))
    assert len(found) == steps
    longer = TrainingBatches(data=data, places=places, key=Key(0), batch_size=batch_size, epochs=steps)
    assert found == held(longer)[:steps]


def test_the_order_changes_with_key_and_epoch_and_nothing_else():
    data = make([3] * 50)

    def order(seed: int) -> list[int]:
        batches = TrainingBatches(data=data, places=range(50), key=Key(seed), batch_size=50, epochs=2)
        return list(chain(*held(batches)))

    first = order(0)
    torch.manual_seed(7)
    assert order(0) == first
    assert order(1) != first
    assert first[:50] != first[50:]


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=30), batch_size=st.integers(1, 9))
def test_evaluation_holds_each_example_once_the_longest_first(lengths, batch_size):
    batches = EvaluationBatches(data=make(lengths), batch_size=batch_size)
    found = held(batches)
    flat = list(chain(*found))
    assert len(found) == len(batches)
    assert sorted(flat) == list(range(len(lengths)))
    assert [lengths[place] for place in flat] == sorted(lengths, reverse=True)
    assert held(batches) == found


def test_nothing_gives_no_batch():
    data = make([3, 3])
    assert held(EvaluationBatches(data=data, places=[])) == []
    assert held(TrainingBatches(data=data, places=[], key=Key(0), batch_size=2, steps=3)) == []


@pytest.mark.parametrize("setting", ["batch_size", "epochs", "steps"])
def test_settings_below_one_are_refused(setting):
    settings = {"batch_size": 2, setting: 0}
    with pytest.raises(DataError, match=f"{setting} is 0. Allowed: at least 1"):
        TrainingBatches(data=make([1]), places=[0], key=Key(0), **settings)
    with pytest.raises(DataError, match="Allowed: at least 1"):
        EvaluationBatches(data=make([1]), batch_size=0)
