from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torchmetrics.functional as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from spry.tasks.metrics import ClassificationMetrics, classified


def draw(count: int, classes: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    losses = rng.exponential(size=count).astype(np.float32)
    return losses, rng.integers(0, classes, count), rng.normal(size=(count, classes)).astype(np.float32)


@pytest.mark.parametrize(("count", "classes"), [(1, 2), (7, 2), (200, 3), (50, 20)])
def test_accuracy_f1_and_confusion_agree_with_torchmetrics(count, classes):
    losses, labels, logits = draw(count, classes)
    found = classified(losses, labels, logits)
    arguments = torch.from_numpy(logits), torch.from_numpy(labels)
    kind = {"task": "multiclass", "num_classes": classes}
    assert found.accuracy == pytest.approx(reference.accuracy(*arguments, **kind, average="micro").item())
    assert found.macro_f1 == pytest.approx(reference.f1_score(*arguments, **kind, average="macro").item())
    assert np.array_equal(found.confusion, reference.confusion_matrix(*arguments, **kind).numpy())
    assert found.loss == pytest.approx(losses.mean(), rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 30), max_size=4))
def test_the_parts_add_up_to_the_whole_however_they_are_cut(cuts):
    losses, labels, logits = draw(30, 4)
    bounds = [0, *sorted(cuts), 30]
    parts = [classified(losses[a:b], labels[a:b], logits[a:b]) for a, b in pairwise(bounds)]
    whole, merged = classified(losses, labels, logits), sum(parts, start=ClassificationMetrics())
    assert (merged.examples, merged.correct) == (whole.examples, whole.correct)
    assert np.array_equal(merged.confusion, whole.confusion)
    assert merged.loss_sum == pytest.approx(whole.loss_sum, rel=1e-12)


def test_nothing_counted_is_false_and_nan_and_adds_nothing():
    some = classified(*draw(5, 3))
    assert some
    assert not ClassificationMetrics()
    assert all(
        math.isnan(value)
        for value in (
            ClassificationMetrics().accuracy,
            ClassificationMetrics().loss,
            ClassificationMetrics().macro_f1,
        )
    )
    assert some + ClassificationMetrics() == ClassificationMetrics() + some == some
    assert some != ClassificationMetrics()
    assert some != 3


def test_counts_without_classes_merge_too():
    merged = ClassificationMetrics(examples=2, correct=1, loss_sum=1.0) + ClassificationMetrics(
        examples=2, correct=2, loss_sum=3.0
    )
    assert (merged.accuracy, merged.loss) == (0.75, 1.0)


def test_details_are_kept_of_a_few_classes_and_of_metrics_that_have_any():
    from spry.tasks.metrics import MAX_LOGGED
    from spry.tasks.task import details

    few, many = (
        ClassificationMetrics(examples=1, confusion=np.eye(n, dtype=np.int64)) for n in (2, MAX_LOGGED + 1)
    )
    assert details(few) == {"confusion": [[1, 0], [0, 1]]}
    assert details(many) == details(ClassificationMetrics()) == details(object()) == {}
