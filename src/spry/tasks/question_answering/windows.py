"""Questions with their contexts as tokens: a long context is read in several windows, which overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spry.core.errors import DataError
from spry.data.dataset import Dataset
from spry.data.encoded import Encoded, needed_length
from spry.tasks.question_answering.target import Span

USUAL_LENGTH = 384
"""Tokens of a window at most, where no length is given."""
OVERLAP = 1 / 3
"""Share of a window that the next one repeats, where no stride is given."""
_CHUNK = 256


def encode_windows(
    dataset: Dataset,
    tokenizer: Any,
    *,
    max_length: int | None = None,
    most: int = USUAL_LENGTH,
    stride: int | None = None,
    pad: int,
) -> Encoded:
    """Tokenise questions and contexts.

    The first answer of a question is the target; in windows that do not hold all of it the target is the null token.

    Args:
        dataset: Pairs (question, context) with the spans of their answers.
        tokenizer: A fast tokenizer, which knows where in a text its tokens are.
        max_length: Tokens of a window, marks included; None takes what 95 % of the questions need in one window, at
            most 384.
        most: The most tokens that the model takes.
        stride: Tokens of the context that a window shares with the one before, >= 0; a third of ``max_length`` if None.
        pad: The token that fills short windows.

    Returns:
        The windows, one a row; ``examples`` has the question of each. Beside the model's inputs a token has ``begins``
        and ``ends``, where its text is in the context, both 0 for what is no part of it. A row has
        ``start_positions`` and ``end_positions``, the first and the last token of the answer; ``null``, the place of
        the token that stands for "no answer", CLS or else the first token outside the context; and ``question``.

    Raises:
        DataError: If the tokenizer is not a fast one, or the windows would have no room for their contexts.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise DataError(
            f"{dataset.name}: the tokenizer ({type(tokenizer).__name__}) does not say where in a text its tokens "
            "are, so answers cannot be found. Choose a model with a fast tokenizer (tokenizer.json)."
        )
    whole = _whole_lengths(dataset, tokenizer)
    length = needed_length(whole, min(most, USUAL_LENGTH)) if max_length is None else max_length
    marks = tokenizer.num_special_tokens_to_add(pair=True)
    overlap = round(length * OVERLAP) if stride is None else stride
    room = (length - marks - overlap) // 2
    if overlap < 0 or room < 1:
        raise DataError(
            f"{dataset.name}: the stride is {overlap} tokens in windows of {length}, {marks} of them the model's "
            f"marks. Allowed: 0 to {max(0, length - marks - 2)}; question and context share what is left."
        )
    # half of what two windows do not share is the context's, so that a long question cannot make windows stand still
    asked = _shortened([question for question, _ in dataset.texts], tokenizer, room)
    cutter = _Cutter(tokenizer=tokenizer, length=length, stride=overlap)
    chunks = [
        cutter.cut(dataset, asked, range(start, min(start + _CHUNK, len(dataset))))
        for start in range(0, len(dataset), _CHUNK)
    ]
    starts = np.cumsum([0, *(size for chunk in chunks for size in chunk.sizes)], dtype=np.int64)
    counts = [count for chunk in chunks for count in chunk.counts]
    owners = np.repeat(np.arange(len(dataset)), counts)
    targets = torch.cat([chunk.targets for chunk in chunks])
    return Encoded(
        fields={name: torch.cat([chunk.fields[name] for chunk in chunks]) for name in chunks[0].fields},
        starts=starts,
        labels=None,
        pad=pad,
        max_length=length,
        whole=np.diff(starts),  # windows leave nothing out
        per_row={
            "start_positions": targets[:, 0],
            "end_positions": targets[:, 1],
            "null": torch.cat([chunk.null for chunk in chunks]),
            "question": torch.from_numpy(owners.astype(np.int32)),
        },
        examples=owners,
        dataset=dataset,
    )


def _whole_lengths(dataset: Dataset, tokenizer: Any) -> NDArray[np.int64]:
    """Tokens of each question with its whole context, shape (N,)."""
    found: list[int] = []
    for start in range(0, len(dataset), _CHUNK):
        pairs = dataset.texts[start : start + _CHUNK]
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
    targets: Tensor
    null: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class _Cutter:
    tokenizer: Any
    length: int
    stride: int

    def cut(self, dataset: Dataset, asked: Sequence[str], places: range) -> _Chunk:
        sides = [[asked[place] for place in places], [dataset.texts[place][1] for place in places]]
        found = self.tokenizer(
            *sides,
            truncation="only_second",
            max_length=self.length,
            stride=self.stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            split_special_tokens=True,  # no written word becomes one of the model's own marks
            padding=False,
            verbose=False,
        )
        owners = list(found["overflow_to_sample_mapping"])
        answers = [dataset.labels[place] for place in places]
        spans, targets, null = [], [], []
        for row, ids in enumerate(found["input_ids"]):
            inside = np.asarray([side == 1 for side in found.sequence_ids(row)])
            own = np.where(inside[:, None], np.asarray(found["offset_mapping"][row]), 0)
            null.append(self._null(ids, inside))
            targets.append(_target(own, inside, answers[owners[row]], null[-1]))
            spans.append(own)
        names = [name for name in ("input_ids", "token_type_ids") if name in found]
        places_in_context = torch.from_numpy(np.concatenate(spans).astype(np.int32))
        return _Chunk(
            fields={name: _flat(name, found[name]) for name in names}
            | {"begins": places_in_context[:, 0], "ends": places_in_context[:, 1]},
            sizes=[len(ids) for ids in found["input_ids"]],
            counts=[owners.count(number) for number in range(len(places))],
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
