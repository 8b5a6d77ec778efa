"""Regression: its loss against PyTorch's, its scores against torchmetrics, bad labels, and a whole run."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spry.core.errors import DataError
from spry.core.keys import Key
from spry.core.params import dot
from spry.data.datasets import load_splits
from spry.forward.functional import jvp
from spry.tasks.model_task import ModelTask
from spry.tasks.regression.kind import NUMBERS, Regression
from spry.tasks.regression.metrics import RegressionMetrics, ranks

TEXTS = ["a very good film", "bad plot", "the actor was fine and the plot was good", "dull", "great film"]
LABELS = [4.5, -1.0, 2.25, 0.0, 5.0]


@pytest.fixture
def splits():
    rows = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]
    return load_splits(rows, target=NUMBERS)


@pytest.fixture
def task(tiny_model) -> ModelTask:
    return ModelTask(str(tiny_model), Regression(), labels=("score",), key=Key(3), dtype=torch.float64)


def test_the_loss_is_the_one_that_transformers_computes(task, splits):
    batch = task.encode(splits.train).batch(range(5))
    weights = {name: w + 0.1 * Key(1).normal(name, tuple(w.shape), w) for name, w in task.init().items()}
    with torch.no_grad():
        for name, value in weights.items():
            task.module.get_parameter(name).copy_(value)
        task.module.get_base_model().config.problem_type = "regression"
        expected = task.module(**batch).loss
    torch.testing.assert_close(task.loss(batch, Key(0))(weights), expected)
    rows = task.loss(batch, Key(0)).examples(weights)
    torch.testing.assert_close(rows.mean(), expected)
    task.micro_batch_size = 2
    torch.testing.assert_close(task.loss(batch, Key(0))(weights), expected)


def test_slopes_are_inner_products_with_autograds_gradient(task, splits):
    batch, weights = task.encode(splits.train).batch(range(5)), task.init()
    loss = task.loss(batch, Key(0))
    leaves = {name: w.clone().requires_grad_() for name, w in weights.items()}
    gradient = dict(zip(leaves, torch.autograd.grad(loss(leaves), list(leaves.values())), strict=True))
    direction = {name: Key(5).normal(name, tuple(w.shape), like=w) for name, w in weights.items()}
    _, slopes = jvp(loss, weights, [direction])
    assert slopes.item() == pytest.approx(dot(gradient, direction), rel=1e-9)


@pytest.mark.parametrize("ties", [False, True])
def test_scores_are_torchmetrics(ties):
    from torchmetrics.functional import mean_absolute_error, mean_squared_error
    from torchmetrics.functional.regression import pearson_corrcoef, spearman_corrcoef

    draw = np.random.default_rng(0)
    pairs = draw.normal(size=(40, 2))
    pairs[:, 1] += pairs[:, 0]
    pairs = pairs.round() if ties else pairs
    parts = [RegressionMetrics(loss_sum=1.0, pairs=pairs[a:b]) for a, b in ((0, 7), (7, 8), (8, 40))]
    found = sum(parts[1:], start=parts[0])
    said, true = torch.from_numpy(pairs.T.copy())
    for name, measure in (
        ("mse", mean_squared_error), ("mae", mean_absolute_error),
        ("pearson", pearson_corrcoef), ("spearman", spearman_corrcoef),
    ):  # fmt: skip
        assert found.values()[name] == pytest.approx(float(measure(said, true)), abs=1e-6)
    assert (found.examples, found.loss) == (40, 3 / 40)
    assert ranks(np.array([3.0, 1.0, 3.0])).tolist() == [2.5, 1.0, 2.5]


def test_what_is_not_defined_is_none():
    assert not RegressionMetrics()
    assert set(RegressionMetrics().values().values()) == {None}
    constant = RegressionMetrics(pairs=np.array([[1.0, 2.0], [1.0, 3.0]])).values()
    assert (constant["mse"], constant["pearson"], constant["spearman"]) == (2.5, None, None)


def test_the_baseline_is_the_error_of_the_training_parts_mean(splits):
    test = splits.train.select([0, 1])
    mean = np.mean(LABELS)
    expected = np.mean([(4.5 - mean) ** 2, (-1 - mean) ** 2])
    assert Regression().baseline(splits.train, test) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("label", "says"),
    [
        ("good", r"row 2 holds 'good', no number.*task.name=classification"),
        ("2,5", "Write decimals with a point"),
        (float("inf"), "Allowed: finite numbers"),
        (True, "true or false"),
        ([1.0], "no number"),
        (float("nan"), "1 of 3 rows have an empty label"),
        (None, "1 of 3 rows have an empty label"),
    ],
)
def test_a_label_that_is_no_number_is_refused(label, says):
    rows = [{"text": "a", "label": 1.0}, {"text": "b", "label": label}, {"text": "c", "label": "2.5"}]
    with pytest.raises(DataError, match=says):
        load_splits(rows, target=NUMBERS)


def test_rows_without_a_number_may_be_left_out_and_a_constant_is_refused():
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": None}, {"text": "c", "label": "-2e-1"}]
    assert load_splits(rows, target=NUMBERS, blank="skip").train.labels == [1.0, -0.2]
    with pytest.raises(DataError, match="labels that differ"):
        load_splits([{"text": "a", "label": 1}, {"text": "b", "label": 1.0}], target=NUMBERS)


def test_examples_are_dealt_by_tenths_of_the_numbers():
    values = np.random.default_rng(0).normal(size=200)
    strata = np.asarray(NUMBERS.strata(values.tolist()))
    assert np.bincount(strata).tolist() == [20] * 10
    assert all(values[strata == s].max() < values[strata == s + 1].min() for s in range(9))
    assert set(NUMBERS.strata([1.0] * 30)) == {0}
    assert len(set(NUMBERS.strata([0.0] * 50 + [1.0] * 50))) == 2
