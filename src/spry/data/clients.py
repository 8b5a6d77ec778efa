"""Clients: who owns which examples, and which of them it keeps back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spry.core.errors import DataError
from spry.core.keys import Key
from spry.data.batches import EvaluationBatches, TrainingBatches
from spry.data.encoded import Encoded


@dataclass(frozen=True, kw_only=True, eq=False)
class Client:
    """One participant: rows of an encoded data set that all virtual clients share, nothing else.

    Its id counts from 0; its name is its natural id, or the id as text. It trains on ``train``, and only evaluates on
    ``held_out``.
    """

    id: int
    name: str
    data: Encoded
    train: NDArray[np.int32]
    held_out: NDArray[np.int32]

    def batches(
        self, key: Key, round: int, *, batch_size: int, epochs: int = 1, steps: int | None = None
    ) -> TrainingBatches:
        """Shuffle its training examples for one round; client and round are folded into the run's key here."""
        return TrainingBatches(
            data=self.data,
            places=self.train,
            key=key.fold("batches", self.id, round),
            batch_size=batch_size,
            epochs=epochs,
            steps=steps,
        )

    def training_once(self, batch_size: int) -> EvaluationBatches:
        """Each training example once, in an order that depends on nothing else."""
        return EvaluationBatches(data=self.data, places=self.train, batch_size=batch_size)

    def held_out_batches(self, batch_size: int = 64) -> EvaluationBatches:
        return EvaluationBatches(data=self.data, places=self.held_out, batch_size=batch_size)


def make(
    dealt: Mapping[str, NDArray[np.int32]], data: Encoded, key: Key, *, held_out: float = 0.2
) -> list[Client]:
    """Make clients of a partition, in its order, each keeping back a random part of its examples.

    A client with ``n`` examples keeps ``round(held_out * n)`` of them back, at most ``n - 1``; with 0.2 that is none
    of 1 or 2 examples and one of 3.
    """
    if not 0 <= held_out < 1:
        raise DataError(f"The clients' held-out share is {held_out}. Allowed: from 0 to below 1.")
    made = []
    for number, (name, places) in enumerate(dealt.items()):
        order = places[key.fold("held out", number).permutation(len(places))]
        kept = max(0, min(round(held_out * len(places)), len(places) - 1))
        own, train, held = data.owned(np.sort(order[kept:]), np.sort(order[:kept]))
        made.append(Client(id=number, name=name, data=own, train=train, held_out=held))
    return made
