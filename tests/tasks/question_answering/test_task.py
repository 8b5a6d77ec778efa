"""The task on tiny models: every kind of gradient, evaluation over windows, and the adapter that peft reads."""

from __future__ import annotations

import json

import pytest
import torch

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
from spry.tasks.question_answering.answers import find_answers, read_window
from spry.tasks.question_answering.kind import QuestionAnswering
from spry.tasks.question_answering.metrics import exact_match, f1_of_words
from spry.tasks.question_answering.target import QUESTIONS, Span
from tests.conftest import WORDS
from tests.tasks.question_answering.models import READERS, reader

KIND = QuestionAnswering(stride=4, longest_answer=3, candidates=5)


def words(count: int, *at: int | str) -> str:
    return " ".join(WORDS[k] for k in Key(0).fold(*at).generator("words").integers(len(WORDS), size=count))


def asked(count: int = 6) -> Dataset:
    texts, labels = [], []
    for number in range(count):
        context = words(6 + 9 * (number % 3), number)
        last = context.split(" ")[-1]
        texts.append((words(2, "question", number), context))
        labels.append((Span(text=last, start=len(context) - len(last)),) if number % 3 else ())
    return Dataset(name="made", texts=texts, labels=labels, target=QUESTIONS)


@pytest.fixture(params=READERS)
def architecture(request) -> str:
    return request.param


@pytest.fixture
def task(architecture, tiny_tokenizer) -> ModelTask:
    return made(architecture, tiny_tokenizer)


def made(architecture: str, tokenizer, **options) -> ModelTask:
    given = {"adapter": Lora(rank=2), "dtype": torch.float64, "exact": "head", **options}
    return ModelTask(
        reader(architecture), KIND, labels=("start", "end"), key=Key(3), tokenizer=tokenizer, **given
    )


def moved(task: ModelTask) -> dict[str, torch.Tensor]:
    """Weights away from the start, where LoRA's B is zero."""
    return {n: w + 0.3 * Key(5).normal(n, tuple(w.shape), like=w) for n, w in task.init().items()}


def close(found, true):
    torch.testing.assert_close(found, true, rtol=1e-4, atol=1e-7)  # Llama's norms compute in float32


def test_slopes_and_the_exact_head_are_autograds(task):
    encoded = task.encode(asked(), max_length=16)
    batch, weights = encoded.batch(range(len(encoded))), moved(task)
    loss = task.loss(batch, Key(0))
    true = backprop()(loss, weights, Key(1))
    direction = {name: Key(7).normal(name, tuple(w.shape), like=w) for name, w in weights.items()}
    value, slopes = jvp(loss, weights, [direction])
    assert value.item() == pytest.approx(true.value, rel=1e-9)
    assert slopes.item() == pytest.approx(dot(true.gradient, direction), rel=1e-4, abs=1e-7)
    head = {name: weights[name] for name in task.units[-1].names}
    base = {name: weight for name, weight in weights.items() if name not in head}
    found = exact_head()(task.loss(batch, Key(0), base), head, Key(1))
    for name in head:
        close(found.gradient[name], true.gradient[name])


@pytest.mark.parametrize("guess", ["identity", "norm", "mlp"])
def test_the_residual_guess_is_exact_in_the_last_two_blocks_where_all_positions_are_read(task, guess):
    encoded = task.encode(asked(), max_length=16)
    batch, weights = encoded.batch(range(len(encoded))), moved(task)
    loss = task.loss(batch, Key(0))
    found, true = (estimate(loss, weights, Key(1)) for estimate in (residual(guess), backprop()))
    assert found.value == pytest.approx(true.value, rel=1e-9)
    for name, gradient in true.gradient.items():  # the models have two blocks
        close(found.gradient[name], gradient)


@pytest.mark.parametrize("size", [1, 2, 99])
def test_micro_batches_of_windows_add_up(task, size):
    encoded = task.encode(asked(), max_length=16)
    batch, weights = encoded.batch(range(len(encoded))), moved(task)
    whole = backprop()(task.loss(batch, Key(0)), weights, Key(1))
    task.micro_batch_size = size
    parts = backprop(checkpoint=True)(task.loss(batch, Key(0)), weights, Key(1))
    assert parts.value == pytest.approx(whole.value, rel=1e-9)
    for name, gradient in whole.gradient.items():
        close(parts.gradient[name], gradient)


def test_the_last_block_is_refused_for_all_positions_are_read(architecture, tiny_tokenizer):
    with pytest.raises(ModelError, match="no last block of which a single position"):
        made(architecture, tiny_tokenizer, exact="last_block")
    task = made(architecture, tiny_tokenizer, exact="auto")
    assert [unit.name for unit in task.units if unit.exact] == ["head"]
    assert "the head alone gets exact gradients" in task.notes[-1]


def test_a_closed_form_is_refused(task):
    with pytest.raises(ModelError, match="learns no classes"):
        task.linear_head()


def test_evaluation_judges_each_question_by_all_its_windows(task):
    questions = asked(7)
    encoded = task.encode(questions, max_length=16)
    weights = moved(task)
    found = [task.evaluate(weights, EvaluationBatches(data=encoded, batch_size=size)) for size in (1, 3, 99)]
    for name, value in found[0].values().items():
        assert [one.values()[name] for one in found[1:]] == pytest.approx([value] * 2, rel=1e-9)
    assert len(encoded) > 7 == found[0].examples
    exact, f1 = [], []
    for number, (_, context) in enumerate(questions.texts):
        batch = encoded.batch([row for row in range(len(encoded)) if encoded.examples[row] == number])
        output = task.calling(weights)(batch)
        windows = [
            read_window(
                output.start_logits[row].numpy(),
                output.end_logits[row].numpy(),
                torch.stack([batch["begins"][row], batch["ends"][row]], 1).numpy(),
                int(batch["null"][row]),
                longest=3,
            )
            for row in range(len(batch["null"]))
        ]
        said = find_answers(windows, context).best().text
        right = [span.text for span in questions.labels[number]]
        exact.append(exact_match(said, right))
        f1.append(f1_of_words(said, right))
    assert found[0].values()["exact_match"] == pytest.approx(sum(exact) / 7)
    assert found[0].values()["f1"] == pytest.approx(sum(f1) / 7)


def test_answers_have_columns_one_a_question(task):
    questions = asked(4)
    encoded = task.encode(KIND.unlabelled(questions.texts, ()), max_length=16)
    rows = KIND.answer(task.calling(moved(task)), encoded.batch(range(len(encoded))), encoded)
    columns = KIND.columns(rows, encoded, (), every=True)
    assert set(map(len, columns.values())) == {4}
    for (_, context), answer, start, listed in zip(
        questions.texts, columns["answer"], columns["start"], columns["candidates"], strict=True
    ):
        candidates = json.loads(listed)
        assert 1 <= len(candidates) <= 5
        assert [one["score"] for one in candidates] == sorted(
            (one["score"] for one in candidates), reverse=True
        )
        assert all(context[one["start"] :].startswith(one["text"]) for one in candidates)
        assert answer in {"", candidates[0]["text"]}
        assert (start is None) == (not answer)


@pytest.mark.parametrize("pair_marks", [True, False])
def test_peft_reads_the_adapter_and_gives_the_same_logits(architecture, pair_marks, tiny_tokenizer, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForQuestionAnswering

    whole = reader(architecture)
    getattr(whole, whole.base_model_prefix).save_pretrained(tmp_path / "base")
    tiny_tokenizer.save_pretrained(tmp_path / "base")
    task = ModelTask(str(tmp_path / "base"), KIND, labels=("start", "end"), key=Key(3), adapter=Lora(rank=2))
    weights = moved(task)
    encoded = task.encode(asked(), max_length=16)
    batch = {n: v for n, v in encoded.batch(range(4)).items() if n not in KIND.unread}
    if pair_marks and architecture == "bert":  # peft's own class for the task would leave them out
        batch["token_type_ids"] = (batch["input_ids"] % 2) * batch["attention_mask"]
    task.save_adapter(weights, tmp_path / "adapter")
    base = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "base")
    with torch.no_grad():
        read = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
        expected, found = read(**batch), task.calling(weights)(batch)
    for name in ("start_logits", "end_logits"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-6)
    assert read.peft_config["default"].task_type is None


def test_a_classifier_is_no_reader(tiny_tokenizer):
    from tests.models.conftest import make

    with pytest.raises(ModelError, match="is no Hugging Face question answering model"):
        ModelTask(make("bert", labels=2), KIND, labels=("start", "end"), tokenizer=tiny_tokenizer)


def test_the_baseline_is_silence():
    assert KIND.baseline(asked(2), asked(6)) == pytest.approx(1 / 3)
