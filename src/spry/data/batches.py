"""Batches of chosen examples, made when asked for: shuffled to train on, by length to evaluate on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from spry.core.errors import DataError
from spry.core.keys import Key
from spry.data.encoded import Batch, Encoded


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingBatches:
    """Shuffled batches; each epoch has an order of its own, and its last batch may be smaller.

    Iterating twice gives the same batches twice.

    Args:
        key: Where the orders come from; fold client and round in.
        steps: Number of batches, at least 1, in place of ``epochs``; begins a new epoch as often as needed.
    """

    data: Encoded
    places: Sequence[int] | NDArray[np.int32]
    key: Key
    batch_size: int
    epochs: int = 1
    steps: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("batch_size", self.batch_size), ("epochs", self.epochs), ("steps", self.steps)):
            if value is not None and value < 1:
                raise DataError(f"{name} is {value}. Allowed: at least 1.")

    def __len__(self) -> int:
        if len(self.places) == 0:
            return 0
        return self.steps or self.epochs * math.ceil(len(self.places) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        made, epoch = 0, 0
        while made < len(self):
            order = np.asarray(self.places)[self.key.fold("epoch", epoch).permutation(len(self.places))]
            for start in range(0, len(order), self.batch_size):
                if made < len(self):
                    yield self.data.batch(order[start : start + self.batch_size])
                    made += 1
            epoch += 1


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationBatches:
    """The examples at ``places`` (all if None), the longest first, so that a batch wastes little on padding."""

    data: Encoded
    places: Sequence[int] | NDArray[np.int32] | None = None
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise DataError(f"batch_size is {self.batch_size}. Allowed: at least 1.")

    def __len__(self) -> int:
        count = len(self.data) if self.places is None else len(self.places)
        return math.ceil(count / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for start in range(0, len(self._order), self.batch_size):
            yield self.data.batch(self._order[start : start + self.batch_size])

    def single(self, number: int) -> EvaluationBatches:
        """One batch by itself."""
        start = number * self.batch_size
        return replace(self, places=self._order[start : start + self.batch_size])

    @cached_property
    def _order(self) -> NDArray[np.int64]:
        places = np.arange(len(self.data)) if self.places is None else np.asarray(self.places, dtype=np.int64)
        return places[np.argsort(-self.data.lengths[places], kind="stable")]
