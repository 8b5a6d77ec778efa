"""Questions with their contexts as tokens: a long context is read in several windows, which overlap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spry.core.errors import DataError
from spry.data.encoded import Batch, Encoded, needed_length
from spry.data.questions import Questions, Span

USUAL_LENGTH = 384
"""Tokens of a window at most, where no length is given."""
OVERLAP = 1 / 3
"""Share of a window that the next one repeats, where no stride is given."""
_CHUNK = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows(Encoded):
    """Tokenised questions: question ``i`` owns the windows ``rows[i] .. rows[i + 1]``, at least one.

    Window ``r`` owns the tokens ``cuts[r] .. cuts[r + 1]`` of the flat tensors; ``starts`` are those of the questions.

    Args:
        spans: Where each token's text is in its context, shape (tokens, 2); (0, 0) for what is no part of it.
        targets: The first and last token of the answer by window, shape (R, 2); the null token's place twice where
            the window has no answer.
        null: The place of the token that stands for "no answer" by window, shape (R,): CLS, or else the first token
            outside the context.
        questions: What was asked, in order.
        stride: Tokens of the context that two windows in succession share.
    """

    rows: NDArray[np.int64]
    cuts: NDArray[np.int64]
    spans: Tensor
    targets: Tensor
    null: Tensor
    questions: Questions
    stride: int

    @property
    def cut(self) -> int:
        """Questions of which a part was left out: none, as windows cover all of a context."""
        return 0

    def batch(self, places: Iterable[int]) -> Batch:
        """Put all windows of some questions below each other, padded on the right to the longest.

        Returns:
            The model's inputs and ``attention_mask``, shape (R, S); ``start_positions`` and ``end_positions``,
            ``null`` and ``question`` (the question's number), shape (R,); ``spans``, shape (R, S, 2); all int64.
        """
        chosen = [int(place) for place in places]
        rows = [row for place in chosen for row in range(self.rows[place], self.rows[place + 1])]
        lengths = [int(self.cuts[row + 1] - self.cuts[row]) for row in rows]
        shape = (len(rows), max(lengths, default=0))
        batch = {
            name: torch.full(shape, self.pad if name == "input_ids" else 0, dtype=torch.int64)
            for name in self.fields
        }
        mask = torch.zeros(shape, dtype=torch.int64)
        spans = torch.zeros((*shape, 2), dtype=torch.int64)
        for at, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            begin, end = int(self.cuts[row]), int(self.cuts[row + 1])
            mask[at, :length] = 1
            spans[at, :length] = self.spans[begin:end]
            for name, flat in self.fields.items():
                batch[name][at, :length] = flat[begin:end]
        numbers = [place for place in chosen for _ in range(self.rows[place], self.rows[place + 1])]
        targets = self.targets[rows].to(torch.int64)
        return {
            **batch,
            "attention_mask": mask,
            "start_positions": targets[:, 0],
            "end_positions": targets[:, 1],
            "null": self.null[rows].to(torch.int64),
            "question": torch.tensor(numbers, dtype=torch.int64),
            "spans": spans,
        }


def encode_windows(
    questions: Questions,
    tokenizer: Any,
    *,
    max_length: int | None = None,
    most: int = USUAL_LENGTH,
    stride: int | None = None,
    pad: int,
    question_first: bool = True,
) -> Windows:
    """Tokenise questions and contexts.

    The first answer of a question is the target; in windows that do not hold all of it the target is the null token.

    Args:
        questions: What is asked.
        tokenizer: A fast tokenizer, which knows where in a text its tokens are.
        max_length: Tokens of a window, marks included; None takes what 95 % of the questions need in one window, at
            most 384.
        most: The most tokens that the model takes.
        stride: Tokens of the context that a window shares with the one before, >= 0; a third of ``max_length`` if None.
        pad: The token that fills short windows.
        question_first: Whether the question stands before the context, as in BERT; XLNet was trained the other way.

    Raises:
        DataError: If the tokenizer is not a fast one, or the windows would have no room for their contexts.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise DataError(
            f"{questions.name}: the tokenizer ({type(tokenizer).__name__}) does not say where in a text its tokens "
            "are, so answers cannot be found. Choose a model with a fast tokenizer (tokenizer.json)."
        )
    whole = _whole_lengths(questions, tokenizer)
    length = needed_length(whole, min(most, USUAL_LENGTH)) if max_length is None else max_length
    marks = tokenizer.num_special_tokens_to_add(pair=True)
    overlap = round(length * OVERLAP) if stride is None else stride
    room = (length - marks - overlap) // 2
    if overlap < 0 or room < 1:
        raise DataError(
            f"{questions.name}: the stride is {overlap} tokens in windows of {length}, {marks} of them the model's "
            f"marks. Allowed: 0 to {max(0, length - marks - 2)}; question and context share what is left."
        )
    # half of what two windows do not share is the context's, so that a long question cannot make windows stand still
    asked = _shortened([question for question, _ in questions.texts], tokenizer, room)
    cutter = _Cutter(tokenizer=tokenizer, length=length, stride=overlap, question_first=question_first)
    chunks = [
        cutter.cut(questions, asked, range(start, min(start + _CHUNK, len(questions))))
        for start in range(0, len(questions), _CHUNK)
    ]
    cuts = np.cumsum([0, *(size for chunk in chunks for size in chunk.sizes)], dtype=np.int64)
    rows = np.cumsum([0, *(count for chunk in chunks for count in chunk.counts)], dtype=np.int64)
    return Windows(
        fields={name: torch.cat([chunk.fields[name] for chunk in chunks]) for name in chunks[0].fields},
        starts=cuts[rows],
        labels=torch.tensor(questions.labels, dtype=torch.int32),
        pad=pad,
        max_length=length,
        whole=whole,
        rows=rows,
        cuts=cuts,
        spans=torch.cat([chunk.spans for chunk in chunks]),
        targets=torch.cat([chunk.targets for chunk in chunks]),
        null=torch.cat([chunk.null for chunk in chunks]),
        questions=questions,
        stride=overlap,
    )


def _whole_lengths(questions: Questions, tokenizer: Any) -> NDArray[np.int64]:
    """Tokens of each question with its whole context, shape (N,)."""
    found: list[int] = []
    for start in range(0, len(questions), _CHUNK):
        pairs = questions.texts[start : start + _CHUNK]
        ids = tokenizer(
            [pair[0] for pair in pairs],
            [pair[1] for pair in pairs],
            split_special_tokens=True,
            return_attention_mask=False,
            verbose=False,
        )["input_ids"]
        found += [len(row) for row in ids]
    return np.asarray(found, dtype=np.int64)


def _shortened(texts: Sequence[str], tokenizer: Any, most: int) -> list[str]:
    """Cut each text after so many tokens."""
    spans = tokenizer(
        list(texts),
        add_special_tokens=False,
        split_special_tokens=True,
        return_offsets_mapping=True,
        verbose=False,
    )["offset_mapping"]
    return [
        text if len(places) <= most else text[: places[most - 1][1]]
        for text, places in zip(texts, spans, strict=True)
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Chunk:
    """Windows of some questions: their tokens in flat tensors, how many each has, and how many each question has."""

    fields: dict[str, Tensor]
    sizes: list[int]
    counts: list[int]
    spans: Tensor
    targets: Tensor
    null: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class _Cutter:
    tokenizer: Any
    length: int
    stride: int
    question_first: bool

    def cut(self, questions: Questions, asked: Sequence[str], places: range) -> _Chunk:
        sides = [[asked[place] for place in places], [questions.texts[place][1] for place in places]]
        found = self.tokenizer(
            *(sides if self.question_first else reversed(sides)),
            truncation="only_second" if self.question_first else "only_first",
            max_length=self.length,
            stride=self.stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            split_special_tokens=True,  # no written word becomes one of the model's own marks
            padding=False,
            verbose=False,
        )
        owners = list(found["overflow_to_sample_mapping"])
        answers = [questions.answers[place] for place in places]
        spans, targets, null = [], [], []
        for row, ids in enumerate(found["input_ids"]):
            inside = np.asarray([side == int(self.question_first) for side in found.sequence_ids(row)])
            own = np.where(inside[:, None], np.asarray(found["offset_mapping"][row]), 0)
            null.append(self._null(ids, inside))
            targets.append(_target(own, inside, answers[owners[row]], null[-1]))
            spans.append(own)
        names = [name for name in ("input_ids", "token_type_ids") if name in found]
        return _Chunk(
            fields={name: _flat(name, found[name]) for name in names},
            sizes=[len(ids) for ids in found["input_ids"]],
            counts=[owners.count(number) for number in range(len(places))],
            spans=torch.from_numpy(np.concatenate(spans).astype(np.int32)),
            targets=torch.tensor(targets, dtype=torch.int32),
            null=torch.tensor(null, dtype=torch.int32),
        )

    def _null(self, ids: Sequence[int], inside: NDArray[np.bool_]) -> int:
        """CLS, or else the first token that is no part of the context, so that no answer begins there."""
        mark = getattr(self.tokenizer, "cls_token_id", None)
        return ids.index(mark) if mark in ids else int(np.argmin(inside))


def _target(
    spans: NDArray[np.int64], inside: NDArray[np.bool_], answers: Sequence[Span], null: int
) -> tuple[int, int]:
    """The first and the last token of the first answer; the null token twice if the window lacks a part of it."""
    if not answers:
        return null, null
    begin, end = answers[0].start, answers[0].start + len(answers[0].text)
    held = np.flatnonzero(inside & (spans[:, 1] > begin) & (spans[:, 0] < end))
    if not len(held) or spans[held[0], 0] > begin or spans[held[-1], 1] < end:
        return null, null
    return int(held[0]), int(held[-1])


def _flat(name: str, rows: Sequence[Sequence[int]]) -> Tensor:
    kind = torch.int32 if name == "input_ids" else torch.int8
    return torch.tensor([value for row in rows for value in row], dtype=kind)
