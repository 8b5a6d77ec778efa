"""Multi-label classification: its loss against transformers', its scores against torchmetrics, and bad labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spry.core.errors import DataError
from spry.core.keys import Key
from spry.core.params import dot
from spry.data.datasets import load_splits
from spry.forward.functional import jvp
from spry.tasks.kinds import choose_target
from spry.tasks.model_task import ModelTask
from spry.tasks.multi_label.kind import MultiLabel
from spry.tasks.multi_label.metrics import MultiLabelMetrics, counted
from spry.tasks.multi_label.target import LabelSetTarget

TEXTS = ["a very good film", "bad plot", "the actor was fine and the plot was good", "dull", "great film"]
LABELS = [["praise", "film"], ["plot"], ["praise", "plot"], [], ["film", "praise"]]
SETS = LabelSetTarget()


def rows(labels=LABELS):
    return [{"text": text, "label": label} for text, label in zip(TEXTS, labels, strict=False)]


@pytest.fixture
def dataset():
    return load_splits(rows(), target=SETS).train


@pytest.fixture
def task(tiny_model, dataset) -> ModelTask:
    return ModelTask(
        str(tiny_model), MultiLabel(), labels=dataset.label_names, key=Key(3), dtype=torch.float64
    )


def test_the_loss_is_the_one_that_transformers_computes_and_slopes_are_autograds(task, dataset):
    batch, weights = task.encode(dataset).batch(range(5)), task.init()
    assert batch["labels"].tolist() == [[1, 0, 1], [0, 1, 0], [0, 1, 1], [0, 0, 0], [1, 0, 1]]
    loss = task.loss(batch, Key(0))
    with torch.no_grad():
        task.module.get_base_model().config.problem_type = "multi_label_classification"
        expected = task.module(**{**batch, "labels": batch["labels"].double()}).loss
    torch.testing.assert_close(loss(weights), expected)
    torch.testing.assert_close(loss.examples(weights).mean(), expected)
    leaves = {name: w.clone().requires_grad_() for name, w in weights.items()}
    gradient = dict(zip(leaves, torch.autograd.grad(loss(leaves), list(leaves.values())), strict=True))
    direction = {name: Key(5).normal(name, tuple(w.shape), like=w) for name, w in weights.items()}
    _, slopes = jvp(loss, weights, [direction])
    assert slopes.item() == pytest.approx(dot(gradient, direction), rel=1e-9)
    task.micro_batch_size = 2
    torch.testing.assert_close(task.loss(batch, Key(0))(weights), expected)


def test_scores_are_torchmetrics():
    from torchmetrics.functional.classification import multilabel_exact_match, multilabel_f1_score

    draw = np.random.default_rng(0)
    true, said = draw.random((50, 4)) < 0.4, draw.random((50, 4)) < 0.5
    true[:20] = said[:20]
    true[:, 3] = said[:, 3] = False  # neither there nor said
    losses = np.ones(50)
    parts = [counted(losses[a:b], true[a:b], said[a:b]) for a, b in ((0, 7), (7, 8), (8, 50))]
    found = sum(parts, start=MultiLabelMetrics()).values()
    given = torch.from_numpy(said).int(), torch.from_numpy(true).int(), 4
    expected = {
        "micro_f1": multilabel_f1_score(*given, average="micro"),
        "macro_f1": multilabel_f1_score(*given, average="macro", zero_division=0),
        "exact_match": multilabel_exact_match(*given),
    }
    assert found == pytest.approx({name: float(value) for name, value in expected.items()}, abs=1e-6)
    assert set(MultiLabelMetrics().values().values()) == {None}


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([[0, 3], [1]], (("0", "1", "3"), [(0, 2), (1,)])),
        (["[0, 3]", "[1]"], (("0", "1", "3"), [(0, 2), (1,)])),
        (["[0 3]", "[1]"], (("0", "1", "3"), [(0, 2), (1,)])),
        (["b|a", "c"], (("a", "b", "c"), [(0, 1), (2,)])),
        (["b, a, a", "c"], (("a", "b", "c"), [(0, 1), (2,)])),
        (["['x', 'y']", "[]"], (("x", "y"), [(0, 1), ()])),
        ([np.array(["x", "y"]), []], (("x", "y"), [(0, 1), ()])),
    ],
)
def test_labels_are_read_as_users_write_them(labels, says):
    train = load_splits(rows(labels), target=SETS).train
    assert (train.label_names, train.labels) == says


def test_lists_are_taken_for_several_labels_where_no_task_is_named():
    assert load_splits(rows(), target=choose_target).train.target == SETS
    assert load_splits(rows(["a", "b", "a"]), target=choose_target).train.target.task == "classification"


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([["a"], ["a"]], "every label is 'a'. The task multi-label needs at least two"),
        ([[], []], "no row has a label"),
        (
            [["a"], None],
            r"1 of 2 rows have an empty label \(row 2\). Fill them in, with \[\] where there is none,",
        ),
        (["a|b", ""], r"with \[\] where there is none"),
        (["0,1,0", "1,0,0"], r"every row holds 3 zeros and ones \(0,1,0\).*Write the names"),
        ([[0, 1], [1, 1]], "every row holds 2 zeros and ones"),
        (["[0 1 1]", "[1 0 0]"], "every row holds 3 zeros and ones"),
        (["[a, b]", "[a]"], r"row 1 holds a list that cannot be read \(\[a, b\]\).*in quotes"),
        (["['a', 'b'", "['a']"], "row 1 holds a list that cannot be read"),
        ([["a"], [{"b": 1}]], "a dictionary"),
    ],
)
def test_what_cannot_be_learnt_is_refused(labels, says):
    with pytest.raises(DataError, match=says):
        load_splits(rows(labels), target=SETS)


def test_labels_that_are_called_0_and_1_are_none_of_a_vector():
    found = load_splits(rows([[0, 1], [2], []]), test=rows([[0, 1], [1, 0]]), target=SETS)
    assert (found.train.label_names, found.test.labels) == (("0", "1", "2"), [(0, 1), (0, 1)])


def test_a_label_only_in_the_test_part_is_told():
    with pytest.raises(DataError, match="row 1 has the label 'new', which the training part does not have"):
        load_splits(rows(), test=rows([["new"]]), target=SETS)


def test_examples_lie_in_strata_of_their_rarest_label_and_classes_may_be_numbered_anew(dataset):
    assert dataset.label_names == ("film", "plot", "praise")
    assert dataset.strata == [1, 2, 2, 0, 1]
    assert dataset.counts == {"film": 2, "plot": 2, "praise": 3}
    assert dataset.relabelled(["praise", "film", "plot"]).labels == [(0, 1), (2,), (0, 2), (), (0, 1)]


def test_the_baseline_is_the_best_constant_answer(dataset):
    # always praise: 2*3/(2*3+2+4) = 0.5; praise and one more: 2*5/(10+5+2) = 0.588; all: 14/(14+8) = 0.636
    assert MultiLabel().baseline(dataset, dataset) == pytest.approx(14 / 22)
