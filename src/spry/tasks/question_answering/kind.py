"""Extractive question answering as a task: its data, loss, measures and answers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from spry.core.errors import ModelError
from spry.data.dataset import Dataset
from spry.data.encoded import Batch, Encoded
from spry.data.target import Target
from spry.models.model_class import ModelClass
from spry.tasks.adapter_info import AdapterInfo
from spry.tasks.kind import Reduction, TaskKind
from spry.tasks.logits import DIGITS
from spry.tasks.model_call import ModelCall, widened
from spry.tasks.question_answering.answers import KEPT, LONGEST, Answers, Window, find_answers, read_window
from spry.tasks.question_answering.loss import span_loss
from spry.tasks.question_answering.metrics import Judged, QuestionMetrics, exact_match, f1_of_words
from spry.tasks.question_answering.target import QUESTIONS, Span
from spry.tasks.question_answering.windows import USUAL_LENGTH, encode_windows

READER = ModelClass(
    auto="AutoModelForQuestionAnswering",
    table="MODEL_FOR_QUESTION_ANSWERING_MAPPING",
    what="question answering model",
    classes=False,
)
"""Two scores a token: how well an answer begins and ends there.

peft's own class for the task leaves out ``token_type_ids``, which tell BERT question and context apart; its plain one
hands on all that it is given.
"""


@dataclass(frozen=True, kw_only=True)
class QuestionAnswering(TaskKind):
    """The answer is a span of the context, or there is none: ``L = -1/2 (log p_start[s] + log p_end[e])`` a window.

    Source:
        Rajpurkar et al. 2018 (arXiv 1806.03822); Devlin et al. 2019 (arXiv 1810.04805) for the loss.
    """

    stride: Annotated[
        int | None,
        Field(
            ge=0,
            description="Tokens of the context that windows in succession share; a third of one if unset.",
        ),
    ] = None
    threshold: Annotated[
        float,
        Field(description="By how much the best span's score must exceed that of no answer to be given."),
    ] = 0.0
    longest_answer: Annotated[int, Field(ge=1, description="Tokens of an answer at most.")] = LONGEST
    candidates: Annotated[int, Field(ge=1, description="Answers a question that predictions list.")] = KEPT

    name: ClassVar[str] = "question-answering"
    about: ClassVar[str] = "a span of a context, or no answer"
    model_class: ClassVar[ModelClass] = READER
    pipeline: ClassVar[str] = "question-answering"
    score: ClassVar[str] = "f1"
    piped: ClassVar[bool] = False
    unread: ClassVar[frozenset[str]] = frozenset({
        "begins",
        "ends",
        "start_positions",
        "end_positions",
        "null",
        "question",
    })

    @property
    def target(self) -> Target:
        return QUESTIONS

    def outputs(self, dataset: Dataset) -> tuple[str, ...]:
        return ("start", "end")

    def encode(
        self, dataset: Dataset, tokenizer: Any, *, max_length: int | None, most: int, pad: int
    ) -> Encoded:
        return encode_windows(
            dataset, tokenizer, max_length=max_length, most=most, stride=self.stride, pad=pad
        )

    def loss(self, call: ModelCall, batch: Batch, reduction: Reduction) -> Tensor:
        start, end = _scores(call, batch)
        return span_loss(start, end, batch, reduction)

    def nothing(self) -> QuestionMetrics:
        return QuestionMetrics(threshold=self.threshold)

    def measure(self, call: ModelCall, batch: Batch, data: Encoded | None) -> QuestionMetrics:
        dataset = _dataset_of(data)
        start, end = _scores(call, batch)
        total = QuestionMetrics(
            loss_sum=math.fsum(span_loss(start, end, batch, "none").tolist()),
            windows=len(start),
            threshold=self.threshold,
        )
        for number, window in zip(
            batch["question"].tolist(), self._windows(start, end, batch, 1), strict=True
        ):
            one = _judged(window, dataset.texts[number][1], dataset.labels[number])
            total += QuestionMetrics(judged={number: one}, threshold=self.threshold)
        return total

    def baseline(self, train: Dataset, test: Dataset) -> float:
        """F1 of always saying that there is no answer."""
        return sum(not answers for answers in test.labels) / len(test)

    def unlabelled(self, texts: Sequence[Any], outputs: tuple[str, ...]) -> Dataset:
        return Dataset(name="questions", texts=texts, labels=[()] * len(texts), target=QUESTIONS)

    def probe(self, texts: Sequence[str], outputs: int, draw: np.random.Generator) -> Dataset:
        """Each text is a context, and its first word the question and the answer."""
        firsts = [text.split()[0] for text in texts]
        return Dataset(
            name="random words",
            texts=list(zip(firsts, texts, strict=True)),
            labels=[
                (Span(text=first, start=text.index(first)),)
                for first, text in zip(firsts, texts, strict=True)
            ],
            target=QUESTIONS,
        )

    def answer(self, call: ModelCall, batch: Batch, data: Encoded) -> Sequence[Window]:
        return self._windows(*_scores(call, batch), batch, self.candidates)

    def columns(
        self, rows: Sequence[Window], data: Encoded, outputs: tuple[str, ...], *, every: bool
    ) -> dict[str, Sequence[Any]]:
        """The answer, empty for none, its first character and its probability; with ``every`` all candidates."""
        dataset = _dataset_of(data)
        assert data.examples is not None  # windows are parts of examples
        windows: list[list[Window]] = [[] for _ in range(len(dataset))]
        for number, window in zip(data.examples.tolist(), rows, strict=True):
            windows[number].append(window)
        found = [
            find_answers(own, context, kept=self.candidates)
            for own, (_, context) in zip(windows, dataset.texts, strict=True)
        ]
        best = [answers.best(self.threshold) for answers in found]
        columns: dict[str, Sequence[Any]] = {
            "answer": [one.text for one in best],
            "start": [one.start if one.text else None for one in best],
            "probability": [round(one.probability, DIGITS) for one in best],
            "no_answer_probability": [round(answers.null.probability, DIGITS) for answers in found],
        }
        return {**columns, "candidates": [_listed(answers) for answers in found]} if every else columns

    def document(self, metrics: QuestionMetrics, outputs: tuple[str, ...]) -> Mapping[str, Any]:
        return metrics.details()

    def title(self, outputs: tuple[str, ...]) -> str:
        return "Question answering: spans of a context, or no answer"

    def example(self, info: AdapterInfo) -> str:
        cut = info.max_length or USUAL_LENGTH
        return "\n".join([
            f'inputs = tokenizer("a question", "its context", truncation="only_second", max_length={cut}, '
            'return_tensors="pt")',
            "scores = model(**inputs)",
            "start, end = int(scores.start_logits.argmax()), int(scores.end_logits.argmax())  # 0 and 0: no answer",
            'answer = tokenizer.decode(inputs["input_ids"][0, start : end + 1], skip_special_tokens=True)',
        ])

    def _windows(self, start: Tensor, end: Tensor, batch: Batch, kept: int) -> list[Window]:
        places = np.stack([batch["begins"].numpy(), batch["ends"].numpy()], axis=2)
        return [
            read_window(*rows, kept=kept, longest=self.longest_answer)
            for rows in zip(
                start.cpu().numpy(), end.cpu().numpy(), places, batch["null"].tolist(), strict=True
            )
        ]


def _scores(call: ModelCall, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits of the first and the last token, each of shape (R, S)."""
    output = call(batch)
    return widened(output.start_logits), widened(output.end_logits)


def _dataset_of(data: Encoded | None) -> Dataset:
    if data is None or data.dataset is None:
        raise ModelError(
            "answers are cut out of contexts, and these batches do not say where they are from. Evaluate on "
            "EvaluationBatches of data that the task encoded."
        )
    return data.dataset


def _judged(window: Window, context: str, answers: Sequence[Span]) -> Judged:
    right = [answer.text for answer in answers]
    best = max(window.spans, key=lambda place: window.spans[place], default=None)
    if best is None:
        return Judged(answerable=bool(right), score=-math.inf, null=window.null)
    said = context[best[0] : best[1]]
    return Judged(
        answerable=bool(right),
        score=window.spans[best],
        null=window.null,
        exact=exact_match(said, right),
        f1=f1_of_words(said, right),
    )


def _listed(answers: Answers) -> str:
    rounded = [{**asdict(one), "probability": round(one.probability, DIGITS)} for one in answers.candidates]
    return json.dumps(rounded, ensure_ascii=False)
