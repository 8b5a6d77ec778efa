"""One right option of several: gradients, options that are missing, answers, and the adapter that peft reads."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.core.params import dot
from spry.data.batches import EvaluationBatches
from spry.data.dataset import Dataset
from spry.estimators.backprop import backprop
from spry.estimators.exact import exact_head
from spry.estimators.residual import residual
from spry.forward.functional import jvp
from spry.models.adapters import Lora
from spry.tasks.model_task import ModelTask
from spry.tasks.multiple_choice.one import MultipleChoice
from spry.tasks.multiple_choice.target import CHOICES
from tests.models.conftest import make

KIND = MultipleChoice()
LEADS = ["a good film", "bad", "the plot and the actor", "dull"]
ENDS = ["was good", "bad", "very very dull", "fine film"]


def questions() -> Dataset:
    texts = [tuple((lead, end) for end in ENDS[: 2 + number % 3]) for number, lead in enumerate(LEADS)]
    return Dataset(name="made", texts=texts, labels=[1, 2, 3, 0], target=CHOICES)


@pytest.fixture(params=["bert", "distilbert", "roberta", "llama"])
def architecture(request) -> str:
    return request.param


@pytest.fixture
def task(architecture, tiny_tokenizer) -> ModelTask:
    given = {"tokenizer": tiny_tokenizer, "key": Key(3), "adapter": Lora(rank=2), "dtype": torch.float64}
    return ModelTask(make(architecture, labels=1), KIND, labels=("score",), **given)


@pytest.fixture
def weights(task):
    return {n: w + 0.3 * Key(5).normal(n, tuple(w.shape), like=w) for n, w in task.init().items()}


@pytest.fixture
def encoded(task):
    return task.encode(questions(), max_length=16)


def close(found, true):
    torch.testing.assert_close(found, true, rtol=1e-4, atol=1e-7)  # Llama's norms compute in float32


def test_the_loss_is_the_cross_entropy_of_each_questions_own_options(task, weights, encoded):
    losses = task.loss(encoded.batch(range(4)), Key(0)).examples(weights)
    for number, (options, label) in enumerate(zip(questions().texts, questions().labels, strict=True)):
        scores = []
        for lead, end in options:
            ids = task.backbone.tokenizer(lead, end, return_tensors="pt")
            scores.append(
                task.calling(weights).logits({n: ids[n] for n in ("input_ids", "attention_mask")})[0, 0]
            )
        assert losses[number].item() == pytest.approx(
            F.cross_entropy(torch.stack(scores), torch.tensor(label)).item(), rel=1e-5
        )


def test_slopes_head_and_residual_guess_are_autograds(task, weights, encoded):
    loss = task.loss(encoded.batch(range(4)), Key(0))
    true = backprop()(loss, weights, Key(1))
    direction = {name: Key(7).normal(name, tuple(w.shape), like=w) for name, w in weights.items()}
    value, slopes = jvp(loss, weights, [direction])
    assert value.item() == pytest.approx(true.value, rel=1e-9)
    assert slopes.item() == pytest.approx(dot(true.gradient, direction), rel=1e-4, abs=1e-7)
    head = {name: weights[name] for name in task.units[-1].names}
    base = {name: weight for name, weight in weights.items() if name not in head}
    found = exact_head()(task.loss(encoded.batch(range(4)), Key(0), base), head, Key(1))
    guessed = residual("identity")(loss, weights, Key(1))
    for name, gradient in true.gradient.items():  # the models have two blocks, so that nothing is guessed
        close(guessed.gradient[name], gradient)
        close(found.gradient.get(name, gradient), gradient)


@pytest.mark.parametrize("size", [1, 3])
def test_micro_batches_add_up(task, weights, encoded, size):
    whole = backprop()(task.loss(encoded.batch(range(4)), Key(0)), weights, Key(1))
    task.micro_batch_size = size
    parts = backprop()(task.loss(encoded.batch(range(4)), Key(0)), weights, Key(1))
    assert parts.value == pytest.approx(whole.value, rel=1e-9)
    for name, gradient in whole.gradient.items():
        close(parts.gradient[name], gradient)


def test_evaluation_and_answers_never_choose_what_is_missing(task, weights, encoded):
    found = [task.evaluate(weights, EvaluationBatches(data=encoded, batch_size=size)) for size in (1, 4)]
    assert (found[0].examples, found[0].correct) == (found[1].examples, found[1].correct)
    assert found[0].loss == pytest.approx(found[1].loss, rel=1e-6)
    rows = KIND.answer(task.calling(weights), encoded.batch(range(4)), encoded)
    columns = KIND.columns(rows, encoded, (), every=True)
    assert [len(shares) for shares in columns["probabilities"]] == [2, 3, 4, 2]
    assert [sum(shares) for shares in columns["probabilities"]] == pytest.approx([1] * 4, abs=1e-5)
    right = [choice == label for choice, label in zip(columns["choice"], questions().labels, strict=True)]
    assert sum(right) == found[0].correct


def test_a_closed_form_is_refused(task):
    with pytest.raises(ModelError, match="learns no classes"):
        task.linear_head()


def test_the_baseline_is_the_commonest_place():
    train = questions().select([0, 0, 1])
    assert KIND.baseline(train, questions()) == pytest.approx(1 / 4)


def test_peft_reads_the_adapter_and_gives_the_same_scores(architecture, tiny_tokenizer, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    whole = make(architecture)
    getattr(whole, whole.base_model_prefix).save_pretrained(tmp_path / "base")
    tiny_tokenizer.save_pretrained(tmp_path / "base")
    task = ModelTask(str(tmp_path / "base"), KIND, labels=("score",), key=Key(3), adapter=Lora(rank=2))
    weights = {n: w + 0.3 * Key(5).normal(n, tuple(w.shape)) for n, w in task.init().items()}
    batch = task.encode(questions(), max_length=16).batch(range(4))
    each = {name: batch[name].flatten(0, 1) for name in ("input_ids", "attention_mask")}
    task.save_adapter(weights, tmp_path / "adapter")
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=1)
    base.config.pad_token_id = 0
    with torch.no_grad():
        read = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
        torch.testing.assert_close(
            task.calling(weights).logits(each), read(**each).logits, rtol=1e-5, atol=1e-6
        )
