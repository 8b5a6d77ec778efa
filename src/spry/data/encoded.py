"""Tokens of a whole data set in a few flat tensors, made once and shared by all clients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spry.data.dataset import Dataset
from spry.data.tokens import Tokenizer, tokenise

Batch = Mapping[str, Tensor]
"""CPU tensors whose first dimension counts examples: ``input_ids``, ``attention_mask``, ``labels``, ..."""

_CHUNK = 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoded:
    """A tokenised data set: example ``i`` owns the tokens ``starts[i] .. starts[i + 1]`` of the flat tensors.

    Args:
        fields: Flat tensors by model input, such as ``input_ids`` (int32) and ``token_type_ids`` (int8).
        starts: Where each example begins, shape (N + 1,).
        labels: One class per example, shape (N,).
        pad: The token that fills short rows.
        cut: Examples of which only the beginning was kept.
        marked: Examples whose texts write a special token of the model, such as ``[SEP]``; it was read as words.
    """

    fields: Mapping[str, Tensor]
    starts: NDArray[np.int64]
    labels: Tensor
    pad: int
    cut: int = 0
    marked: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per example, shape (N,)."""
        return np.diff(self.starts)

    @property
    def nbytes(self) -> int:
        tensors = (*self.fields.values(), self.labels)
        return sum(t.numel() * t.element_size() for t in tensors) + self.starts.nbytes

    def notes(self) -> list[str]:
        notes = []
        if self.cut:
            share, most = self.cut / len(self), int(self.lengths.max())
            notes.append(
                f"{self.cut:,} of {len(self):,} texts ({share:.1%}) are longer than {most} tokens and were cut."
            )
        if self.marked:
            notes.append(
                f"texts with a special token of the model, which was read as words: {self.marked:,}."
            )
        return notes

    def batch(self, places: Iterable[int]) -> Batch:
        """Put B examples side by side, padded on the right to the longest of them.

        Returns:
            The model's inputs and ``attention_mask``, shape (B, S), and ``labels``, shape (B,), all int64.
        """
        chosen = np.asarray(list(places), dtype=np.int64)
        lengths = self.lengths[chosen]
        shape = (len(chosen), int(lengths.max(initial=0)))
        batch = {
            name: torch.full(shape, self.pad if name == "input_ids" else 0, dtype=torch.int64)
            for name in self.fields
        }
        mask = torch.zeros(shape, dtype=torch.int64)
        for row, (place, length) in enumerate(zip(chosen, lengths, strict=True)):
            start = self.starts[place]
            mask[row, :length] = 1
            for name, flat in self.fields.items():
                batch[name][row, :length] = flat[start : start + length]
        return {**batch, "attention_mask": mask, "labels": self.labels[chosen].to(torch.int64)}


def encode(dataset: Dataset, tokenizer: Tokenizer, *, max_length: int, pad: int) -> Encoded:
    """Tokenise a data set once, keeping ``max_length`` tokens of an example, special ones included."""
    flat: dict[str, list[Tensor]] = {}
    lengths, cut, marked = [0], 0, 0
    for start in range(0, len(dataset), _CHUNK):
        texts = dataset.texts[start : start + _CHUNK]
        tokens = tokenise(texts, tokenizer, max_length=max_length, first=start + 1)
        lengths += [len(ids) for ids in tokens.fields["input_ids"]]
        cut += sum(tokens.cut)
        marked += sum(tokens.marked)
        for name, values in tokens.fields.items():
            kind = torch.int32 if name == "input_ids" else torch.int8
            flat.setdefault(name, []).append(torch.tensor([v for row in values for v in row], dtype=kind))
    return Encoded(
        fields={name: torch.cat(pieces) for name, pieces in flat.items()},
        starts=np.cumsum(lengths, dtype=np.int64),
        labels=torch.tensor(dataset.labels, dtype=torch.int32),
        pad=pad,
        cut=cut,
        marked=marked,
    )
