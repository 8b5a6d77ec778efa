"""MultiRC's measures against torchmetrics and by hand, and the task on a tiny model."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.functional.classification import binary_f1_score

from spry.core.keys import Key
from spry.data.batches import EvaluationBatches
from spry.data.dataset import Dataset
from spry.tasks.model_task import ModelTask
from spry.tasks.multiple_choice.metrics import OptionMetrics, count_options
from spry.tasks.multiple_choice.several import MultiAnswer
from spry.tasks.multiple_choice.target import OPTIONS

KIND = MultiAnswer()


def drawn(seed: int):
    """Questions, whether options are right, and probabilities, in hundredths, that say so more or less."""
    draw = Key(seed).generator("options")
    labels = draw.integers(2, size=60).astype(bool)
    return draw.integers(9, size=60), labels, (draw.integers(70, size=60) + 30 * labels) / 100


def counted(questions, labels, shares, threshold: float) -> OptionMetrics:
    return count_options([0.5] * len(labels), labels, shares, questions.tolist(), threshold)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_f1a_and_exact_match(seed, threshold):
    questions, labels, shares = drawn(seed)
    found, said = counted(questions, labels, shares, threshold), shares >= threshold
    expected = binary_f1_score(torch.tensor(said).int(), torch.tensor(labels).int())
    assert found.values()["f1a"] == pytest.approx(float(expected), abs=1e-6)
    whole = [bool((said == labels)[questions == q].all()) for q in set(questions.tolist())]
    assert found.values()["exact_match"] == pytest.approx(sum(whole) / len(whole))
    assert found.values()["accuracy"] == pytest.approx((said == labels).mean())
    parts = [counted(questions[a:b], labels[a:b], shares[a:b], threshold) for a, b in ((0, 7), (7, 60))]
    for merged in (parts[0] + parts[1], OptionMetrics() + parts[1] + parts[0]):
        assert merged.values() == pytest.approx(found.values())
        assert merged.details() == found.details()
        assert (merged.examples, merged.loss) == (60, 0.5)


@pytest.mark.parametrize("seed", range(5))
def test_the_best_threshold_is_the_best_of_all_hundredths(seed):
    questions, labels, shares = drawn(seed)
    best = counted(questions, labels, shares, 0.5).details()
    every = [counted(questions, labels, shares, k / 100).values()["f1a"] for k in range(100)]
    assert best["best_f1a"] == pytest.approx(max(every))
    assert counted(questions, labels, shares, best["best_threshold"]).values()["f1a"] == pytest.approx(
        max(every)
    )


def test_nothing_has_no_values():
    assert set(OptionMetrics().values().values()) == {None}
    assert not OptionMetrics()


def options() -> Dataset:
    texts = [("a good film", f"was {word}") for word in ("good", "bad", "fine", "dull", "great", "very good")]
    return Dataset(
        name="made", texts=texts, labels=[1, 0, 1, 0, 0, 1], label_names=("false", "true"), target=OPTIONS,
        more={"question": [0, 0, 1, 1, 1, 2]},
    )  # fmt: skip


@pytest.fixture
def task(tiny_model) -> ModelTask:
    return ModelTask(str(tiny_model), KIND, labels=("false", "true"), key=Key(3), dtype=torch.float64)


def test_the_task_counts_questions_over_batches(task):
    encoded = task.encode(options(), max_length=16)
    weights = {n: w + 0.5 * Key(5).normal(n, tuple(w.shape), like=w) for n, w in task.init().items()}
    found = [task.evaluate(weights, EvaluationBatches(data=encoded, batch_size=size)) for size in (1, 2, 6)]
    for one in found:
        assert one.values() == pytest.approx(found[0].values())
        assert (one.examples, len(one.wrong)) == (6, 3)
    said = task.logits(weights, encoded.batch(range(6))).argmax(dim=1)
    expected = binary_f1_score(said, torch.tensor(options().labels))
    assert found[0].values()["f1a"] == pytest.approx(float(expected), abs=1e-6)


def test_its_head_has_a_closed_form(task):
    assert task.linear_head().classes == 2


def test_the_baseline_says_true_of_every_option():
    expected = binary_f1_score(torch.ones(6), torch.tensor(options().labels))
    assert KIND.baseline(options(), options()) == pytest.approx(float(expected), abs=1e-6)


def test_classes_in_a_checkpoints_order_keep_their_meaning(task):
    turned = options().relabelled(("true", "false"))
    encoded = KIND.encode(turned, task.backbone.tokenizer, max_length=16, most=32, pad=0)
    with torch.no_grad():
        turned_head = {
            n: w.flip(0) if n in task.units[-1].names and len(w) == 2 else w for n, w in task.init().items()
        }
        swapped = KIND.measure(task.calling(turned_head), encoded.batch(range(6)), encoded)
        plain = task.evaluate(task.init(), EvaluationBatches(data=task.encode(options(), max_length=16)))
    assert swapped.values() == pytest.approx(plain.values())
    assert swapped.confusion.tolist() == plain.confusion.tolist()
