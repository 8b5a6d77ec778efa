"""Texts to go on with: the next token of documents, or of answers to prompts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from spry.core.errors import DataError
from spry.data.conversations import Conversation, Turn
from spry.data.dataset import Dataset
from spry.data.encoded import NOT_LEARNT, Batch, Encoded
from spry.data.language_rows import ASKED, LanguageRows, encode_language
from spry.data.language_target import LanguageTarget, check_columns
from spry.data.target import Target
from spry.data.tokens import Tokenizer
from spry.models.language_head import LanguageHead, language_head_of
from spry.models.model_class import ModelClass
from spry.tasks.adapter_info import AdapterInfo
from spry.tasks.causal_lm.answers import free_answers, samples
from spry.tasks.causal_lm.loss import row_losses_of, token_loss, tokens_and_hits
from spry.tasks.causal_lm.metrics import LanguageMetrics, answered, unigram_perplexity
from spry.tasks.kind import Reduction, TaskKind
from spry.tasks.model_call import ModelCall

LANGUAGE_MODEL = ModelClass(
    auto="AutoModelForCausalLM",
    table="MODEL_FOR_CAUSAL_LM_MAPPING",
    what="causal language model",
    peft_task="CAUSAL_LM",
    counted=False,
    classes=False,
    trains_head=False,
    usual="smollm2",
)
"""Scores of the next token at each position, of a head that is not trained."""


@dataclass(frozen=True, kw_only=True)
class CausalLM(TaskKind):
    """The next token: ``L(w) = -1/N sum_t log p_w(y_t | y_1 ... y_{t-1})`` over the N learnt tokens of a batch."""

    name: ClassVar[str] = "causal-lm"
    about: ClassVar[str] = "the next token of texts, or of answers to prompts"
    model_class: ClassVar[ModelClass] = LANGUAGE_MODEL
    pipeline: ClassVar[str] = "text-generation"
    score: ClassVar[str] = "perplexity"
    higher_is_better: ClassVar[bool] = False
    verb: ClassVar[str] = "generate"

    messages: Annotated[
        str | None,
        Field(
            description="The column of chats, each a list of messages with role and content; answers are learnt."
        ),
    ] = None
    prompts: Annotated[
        str | None, Field(description="The column of prompts, whose answers stand in task.answers.")
    ] = None
    answers: Annotated[
        str | None, Field(description="The column of answers to the prompts, which alone are learnt.")
    ] = None
    chat_template: Annotated[
        str | None,
        Field(description="A file with a chat template in Jinja, in place of the tokenizer's own."),
    ] = None
    generate: Annotated[
        bool,
        Field(
            description="Whether evaluations let the model answer each prompt freely, for exact match and samples."
        ),
    ] = False
    new_tokens: Annotated[int, Field(ge=1, description="Most tokens of a free answer.")] = 64

    @property
    def target(self) -> Target:
        check_columns(self.messages, self.prompts, self.answers)
        return LanguageTarget(messages=self.messages, prompts=self.prompts, answers=self.answers)

    @property
    def template(self) -> str | None:
        """The chat template that was named; None takes the tokenizer's own."""
        if self.chat_template is None:
            return None
        file = Path(self.chat_template).expanduser()
        if not file.is_file():
            raise DataError(
                f"task.chat_template is {self.chat_template}: there is no such file. Name one in Jinja."
            )
        return file.read_text(encoding="utf-8")

    def outputs(self, dataset: Dataset) -> tuple[str, ...]:
        return ()

    def encode(
        self, dataset: Dataset, tokenizer: Tokenizer, *, max_length: int | None, most: int, pad: int
    ) -> Encoded:
        words: Any = tokenizer
        if self.template is not None:
            words.chat_template = self.template
        return encode_language(dataset, tokenizer, max_length=max_length, most=most, pad=pad)

    def size(self, batch: Batch) -> int:
        return int((batch["labels"][:, 1:] != NOT_LEARNT).sum())

    def loss(self, call: ModelCall, batch: Batch, reduction: Reduction) -> Tensor:
        head = _head(call, batch)
        if reduction == "none":
            return row_losses_of(head, call, batch)
        total, targets = token_loss(head, call, batch)
        return total / max(1, len(targets.tokens))

    def nothing(self) -> LanguageMetrics:
        return LanguageMetrics()

    def measure(self, call: ModelCall, batch: Batch, data: Encoded | None) -> LanguageMetrics:
        found = LanguageMetrics(examples=len(batch["labels"]))
        for losses, hits in tokens_and_hits(_head(call, batch), call, batch):
            found += LanguageMetrics(
                tokens=len(losses), loss_sum=float(losses.double().sum()), correct=int(hits.sum())
            )
        if self.generate and isinstance(data, LanguageRows) and data.pieces is None:
            found += answered(samples(call, batch, data, self.new_tokens))
        return found

    def baseline(self, train: Dataset, test: Dataset) -> float | None:
        return None  # it takes tokens

    def token_baseline(self, train: Iterable[Batch], test: Iterable[Batch], vocabulary: int) -> float | None:
        """Perplexity of the test part's tokens by their frequency in the training part."""
        return unigram_perplexity(_learnt(train), _learnt(test), vocabulary)

    @property
    def options_to_keep(self) -> dict[str, Any]:
        return {**self.options, "chat_template": None}  # the tokenizer has it

    def unlabelled(self, texts: Sequence[Any], outputs: tuple[str, ...]) -> Dataset:
        chats = self.messages is not None or self.prompts is not None
        asked = [_asked(text) if chats else text for text in texts]
        zeros = [0] * len(texts)
        return Dataset(name="prompts", texts=asked, labels=zeros, target=self.target, more={ASKED: zeros})

    def probe(self, texts: Sequence[str], outputs: int, draw: np.random.Generator) -> Dataset:
        return Dataset(name="random words", texts=texts, labels=[0] * len(texts), target=LanguageTarget())

    def answer(self, call: ModelCall, batch: Batch, data: Encoded) -> Sequence[str]:
        assert isinstance(data, LanguageRows)
        rows = zip(batch["input_ids"], batch["attention_mask"], strict=True)
        return free_answers(call, [ids[mask > 0] for ids, mask in rows], data, self.new_tokens)

    def columns(
        self, rows: Sequence[Any], data: Encoded, outputs: tuple[str, ...], *, every: bool
    ) -> dict[str, Sequence[Any]]:
        """The answer."""
        return {"answer": list(rows)}

    def document(self, metrics: LanguageMetrics, outputs: tuple[str, ...]) -> Mapping[str, Any]:
        return metrics.details()

    def title(self, outputs: tuple[str, ...]) -> str:
        return "Answers to prompts" if self.messages or self.prompts else "Texts that go on"

    def example(self, info: AdapterInfo) -> str:
        """A line of Python that uses the pipeline."""
        chat = '[{"role": "user", "content": "a prompt"}]'
        given = chat if self.messages or self.prompts else '"The beginning of a text"'
        return f"{self.verb}({given}, max_new_tokens={self.new_tokens})"


def _asked(text: Any) -> Conversation:
    """A prompt as a conversation; a pair is a prompt with an answer that does not count."""
    first = text[0] if isinstance(text, tuple) else text
    return (Turn("user", first),) if isinstance(first, str) else text


def _learnt(batches: Iterable[Batch]) -> NDArray[np.int64]:
    """All tokens that are predicted."""
    found = [batch["labels"][:, 1:] for batch in batches]
    kept = [labels[labels != NOT_LEARNT].numpy() for labels in found]
    return np.concatenate([np.zeros(0, dtype=np.int64), *kept])


def _head(call: ModelCall, batch: Batch) -> LanguageHead:
    """The head of the model, which is looked for in its first pass."""
    with call.guard():
        return language_head_of(call.module, batch["input_ids"][:2, :8].to(call.device))
