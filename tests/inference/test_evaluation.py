"""Scores by class, against torchmetrics."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from spry.inference.evaluation import LabelledScores
from spry.tasks.classification import Classification
from spry.tasks.metrics import classified


def drawn(seed, classes, examples=200):
    draw = np.random.default_rng(seed)
    labels, logits = draw.integers(classes - 1, size=examples), draw.normal(size=(examples, classes))
    logits[:, 0] -= 9  # a class that is never said, and one that never occurs
    return labels, logits


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("seed", range(3))
def test_precision_recall_and_f1_are_torchmetrics(classes, seed):
    from torchmetrics.functional.classification import (
        multiclass_confusion_matrix,
        multiclass_f1_score,
        multiclass_precision,
        multiclass_recall,
    )

    labels, logits = drawn(seed, classes)
    names = tuple(map(str, range(classes)))
    found = LabelledScores(labels=names, metrics=classified(np.ones(200), labels, logits), baseline=None)
    by_class = found.to_json()["classes"]
    said, true = torch.tensor(logits), torch.tensor(labels)
    for measure, name in (
        (multiclass_precision, "precision"), (multiclass_recall, "recall"), (multiclass_f1_score, "f1"),
    ):  # fmt: skip
        expected = measure(said, true, num_classes=classes, average=None, zero_division=0)
        assert [one[name] for one in by_class] == pytest.approx(expected.tolist(), abs=1e-6)
    assert (
        found.metrics.confusion.tolist()
        == multiclass_confusion_matrix(said, true, num_classes=classes).tolist()
    )
    assert [one["support"] for one in by_class] == np.bincount(labels, minlength=classes).tolist()


def test_the_loss_is_the_mean_of_minus_the_log_of_the_true_classs_probability():
    labels, logits = drawn(0, 3, examples=50)
    call: Any = SimpleNamespace(logits=lambda batch: torch.from_numpy(logits))
    truths = torch.from_numpy(logits).softmax(1).numpy()[np.arange(50), labels]
    found = Classification().measure(call, {"labels": torch.from_numpy(labels)}, None)
    assert found.loss == pytest.approx(-np.log(truths).mean())
