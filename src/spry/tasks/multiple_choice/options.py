"""Questions with their options as tokens: all options of a question lie in one row of a batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from spry.data.dataset import Dataset
from spry.data.encoded import Batch, Encoded, encode
from spry.data.tokens import Tokenizer


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedOptions(Encoded):
    """Tokenised questions: question ``i`` has the options ``first[i] .. first[i + 1]`` of ``each``.

    Args:
        each: All options, one a row.
        first: Where each question's options begin, shape (N + 1,).
    """

    each: Encoded
    first: NDArray[np.int64]

    @property
    def cut(self) -> int:
        """Questions of which an option was cut."""
        whole = self.each.whole
        assert whole is not None  # as ``encode`` makes it
        return int(np.logical_or.reduceat(whole > self.each.lengths, self.first[:-1]).sum())

    def batch(self, places: Iterable[int]) -> Batch:
        """Put the options of B questions side by side, those of a question with fewer than C repeating its first.

        Returns:
            The model's inputs and ``attention_mask``, shape (B, C, S); ``labels``, the right options' places, and
            ``options``, how many each question has, shape (B,); all int64.
        """
        chosen = np.asarray(list(places), dtype=np.int64)
        counts = np.diff(self.first)[chosen]
        most = int(counts.max(initial=0))
        rows = [
            int(self.first[place]) + (option if option < count else 0)
            for place, count in zip(chosen, counts, strict=True)
            for option in range(most)
        ]
        batch = {name: value for name, value in self.each.batch(rows).items() if name != "labels"}
        shaped = {name: value.view(len(chosen), most, value.shape[-1]) for name, value in batch.items()}
        assert self.labels is not None  # every question has a right option
        return {
            **shaped,
            "labels": self.labels[chosen].to(torch.int64),
            "options": torch.from_numpy(counts),
        }


def encode_options(
    dataset: Dataset, tokenizer: Tokenizer, *, max_length: int | None, most: int | None, pad: int
) -> EncodedOptions:
    """Tokenise questions with their options, keeping ``max_length`` tokens of an option with what is before it.

    Args:
        dataset: Its texts are tuples of pairs, one an option.
        max_length: None keeps what 95 % of the options need, at most ``most``.
    """
    pairs = [pair for options in dataset.texts for pair in options]
    each = encode(
        Dataset(name=dataset.name, texts=pairs, labels=[0] * len(pairs)),
        tokenizer,
        max_length=max_length,
        most=most,
        pad=pad,
    )
    first = np.cumsum([0, *map(len, dataset.texts)], dtype=np.int64)
    return EncodedOptions(
        fields=each.fields,
        starts=each.starts[first],
        labels=torch.tensor(dataset.labels, dtype=torch.int32),
        pad=pad,
        max_length=each.max_length,
        whole=each.whole,
        marked=each.marked,
        dataset=dataset,
        each=replace(each, dataset=None),
        first=first,
    )
