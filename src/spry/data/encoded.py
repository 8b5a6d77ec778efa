"""Tokens of a whole data set in a few flat tensors, made once and shared by all clients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spry.data.dataset import Dataset, Text
from spry.data.tokens import Tokenizer, tokenise

Batch = Mapping[str, Tensor]
"""CPU tensors whose first dimension counts rows: ``input_ids``, ``attention_mask``, ``labels``, ..."""

NOT_LEARNT = -100
"""The label of a token that is not learnt, as PyTorch's losses have it."""

COVERED = 0.95
"""Share of the texts that are not cut where no length is given."""
FEWEST = 8
"""Tokens that are kept at least where no length is given."""
_CHUNK = 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """A tokenised data set: row ``i`` owns the tokens ``starts[i] .. starts[i + 1]`` of the flat tensors.

    A row is an example, or a part of one, as the windows of a long text are.

    Args:
        fields: Flat tensors by model input, such as ``input_ids`` (int32) and ``token_type_ids`` (int8); and
            ``labels`` where each token has one.
        starts: Where each row begins, shape (N + 1,).
        labels: What is learnt of each row, such as its class, shape (N,), or several numbers, shape (N, C); None if
            tokens have labels.
        pad: The token that fills short rows.
        max_length: Tokens after which a text was cut; None if none was.
        whole: Tokens per row before it was cut, shape (N,); None if nothing was.
        marked: Examples whose texts write a special token of the model, such as ``[SEP]``; it was read as words.
        per_row: Further tensors by name, whose first dimension counts rows, such as where an answer begins.
        examples: The example that each row is of, shape (N,), ascending; None if each row is one.
        dataset: What was encoded, for metrics that need more of it than tokens.
        covered: Share of the texts that are not cut where no length is given.
        notes: What a user should know of how it was encoded, as sentences.
    """

    fields: Mapping[str, Tensor]
    starts: NDArray[np.int64]
    labels: Tensor | None
    pad: int
    max_length: int | None = None
    whole: NDArray[np.int64] | None = None
    marked: int = 0
    per_row: Mapping[str, Tensor] = field(default_factory=dict)
    examples: NDArray[np.int64] | None = None
    dataset: Dataset | None = None
    covered: float = COVERED
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.starts) - 1

    def rows_of(self, examples: NDArray[np.int32]) -> NDArray[np.int32]:
        """Find the rows of some examples."""
        if self.examples is None:
            return examples
        return np.flatnonzero(np.isin(self.examples, examples)).astype(np.int32)

    def owned(
        self, train: NDArray[np.int32], held_out: NDArray[np.int32]
    ) -> tuple[Encoded, NDArray[np.int32], NDArray[np.int32]]:
        """What a client has of this: where its rows are, those that it trains on, and those that it holds out."""
        return self, self.rows_of(train), self.rows_of(held_out)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per row, shape (N,)."""
        return np.diff(self.starts)

    @property
    def cut(self) -> int:
        """Rows of which a part was left out."""
        return 0 if self.whole is None else int((self.whole > self.lengths).sum())

    @property
    def nbytes(self) -> int:
        tensors = (*self.fields.values(), *self._row_tensors().values())
        return sum(t.numel() * t.element_size() for t in tensors) + self.starts.nbytes

    def batch(self, places: Iterable[int]) -> Batch:
        """Put B rows side by side, padded on the right to the longest of them.

        Returns:
            The model's inputs and ``attention_mask``, shape (B, S), all int64; ``labels``, shape (B,), (B, C) or
            (B, S); and what else there is of each row. Whole numbers are int64.
        """
        chosen = np.asarray(list(places), dtype=np.int64)
        lengths = self.lengths[chosen]
        shape = (len(chosen), int(lengths.max(initial=0)))
        fill = {"input_ids": self.pad, "labels": NOT_LEARNT}
        batch = {name: torch.full(shape, fill.get(name, 0), dtype=torch.int64) for name in self.fields}
        mask = torch.zeros(shape, dtype=torch.int64)
        for row, (place, length) in enumerate(zip(chosen, lengths, strict=True)):
            start = self.starts[place]
            mask[row, :length] = 1
            for name, flat in self.fields.items():
                batch[name][row, :length] = flat[start : start + length]
        whole = {name: _wide(values[chosen]) for name, values in self._row_tensors().items()}
        return {**batch, "attention_mask": mask, **whole}

    def _row_tensors(self) -> dict[str, Tensor]:
        return {**({} if self.labels is None else {"labels": self.labels}), **self.per_row}


def _wide(values: Tensor) -> Tensor:
    return values if values.is_floating_point() else values.to(torch.int64)


def encode(
    dataset: Dataset,
    tokenizer: Tokenizer,
    *,
    max_length: int | None = None,
    most: int | None = None,
    pad: int,
    labels: Tensor | None = None,
) -> Encoded:
    """Tokenise a data set, keeping ``max_length`` tokens of an example, special ones included.

    Args:
        max_length: None keeps what the texts need: the 95th percentile of their tokens, at most ``most``.
        most: The most tokens that the model takes; None if there is no bound.
        labels: What is learnt of each example, shape (N,) or (N, C); None takes the data set's classes.
    """
    starts = range(0, len(dataset), _CHUNK)
    chunks = [_chunk(dataset.texts[start : start + _CHUNK], tokenizer, start) for start in starts]
    whole = np.concatenate([chunk.lengths for chunk in chunks])
    length = needed_length(whole, most) if max_length is None else max_length
    kept = [_cut(chunk, tokenizer, length) for chunk in chunks]
    lengths = np.concatenate([[0], *(chunk.lengths for chunk in kept)])
    return Encoded(
        fields={name: torch.cat([chunk.fields[name] for chunk in kept]) for name in kept[0].fields},
        starts=np.cumsum(lengths, dtype=np.int64),
        labels=torch.tensor(dataset.labels, dtype=torch.int32) if labels is None else labels,
        pad=pad,
        max_length=length,
        whole=whole,
        marked=sum(chunk.marked for chunk in chunks),
        dataset=dataset,
    )


def needed_length(lengths: NDArray[np.int64], most: int | None = None, *, covered: float = COVERED) -> int:
    """The tokens that 95 % of texts, or another share, do not exceed, at least 8, at most ``most``."""
    needed = max(FEWEST, int(np.quantile(lengths, covered, method="inverted_cdf")))
    return needed if most is None else min(needed, most)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Chunk:
    """Some texts, their tokens in flat tensors, and how many each has."""

    texts: Sequence[Text]
    fields: Mapping[str, Tensor]
    lengths: NDArray[np.int64]
    marked: int


def _chunk(texts: Sequence[Text], tokenizer: Tokenizer, start: int) -> _Chunk:
    tokens = tokenise(texts, tokenizer, first=start + 1)
    return _Chunk(
        texts=texts,
        fields={name: _flat(name, rows) for name, rows in tokens.fields.items()},
        lengths=np.asarray([len(ids) for ids in tokens.fields["input_ids"]], dtype=np.int64),
        marked=sum(tokens.marked),
    )


def _cut(chunk: _Chunk, tokenizer: Tokenizer, length: int) -> _Chunk:
    """Tokenise the long texts again: only the tokenizer knows which of their tokens to keep."""
    long = np.flatnonzero(chunk.lengths > length).tolist()
    if not long:
        return chunk
    tokens = tokenise([chunk.texts[place] for place in long], tokenizer, max_length=length)
    fields = {}
    for name, flat in chunk.fields.items():
        rows = list(torch.split(flat, chunk.lengths.tolist()))
        for place, row in zip(long, tokens.fields[name], strict=True):
            rows[place] = _flat(name, [row])
        fields[name] = torch.cat(rows)
    lengths = chunk.lengths.copy()
    lengths[long] = [len(ids) for ids in tokens.fields["input_ids"]]
    return replace(chunk, fields=fields, lengths=lengths)


def _flat(name: str, rows: Sequence[Sequence[int]]) -> Tensor:
    kind = torch.int32 if name == "input_ids" else torch.int8
    return torch.tensor([value for row in rows for value in row], dtype=kind)
