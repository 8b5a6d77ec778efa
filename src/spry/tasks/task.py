"""What a task is to the layers above: the owner of one model, seen through trainable weights and losses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol, Self

from spry.core.keys import Key
from spry.core.params import Params
from spry.core.units import Unit
from spry.data.encoded import Batch
from spry.estimators.loss import Loss
from spry.tasks.score import Score

__all__ = ["Batch", "Metrics", "Score", "Task"]


class Metrics(Protocol):
    """Sums over examples, which add up over batches, clients and rounds."""

    @property
    def examples(self) -> int: ...

    @property
    def loss(self) -> float | None:
        """The mean loss; None without examples."""
        ...

    def values(self) -> Mapping[str, float | None]:
        """What was measured, by name; the task's score is among it."""
        ...

    def __add__(self, other: Self) -> Self: ...


class Task(Protocol):
    """Owns one model for all clients; no method changes its weights."""

    @property
    def units(self) -> tuple[Unit, ...]:
        """Trainable weights by module, in model order, the head last."""
        ...

    @property
    def score(self) -> Score:
        """What the task is judged by."""
        ...

    def init(self) -> Params:
        """Copy the trainable weights at the start.

        Returns:
            All trainable weights, in model order.
        """
        ...

    def loss(self, batch: Batch, key: Key, base: Params) -> Loss:
        """Bind the loss to one batch.

        Args:
            batch: Examples with labels.
            key: Where dropout masks come from, if dropout is on.
            base: The values of trainable weights that the loss will not be given.

        Returns:
            The mean loss of the batch as a function of the trainable weights.
        """
        ...

    def evaluate(self, params: Params, batches: Iterable[Batch]) -> Metrics:
        """Evaluate weights.

        Args:
            params: Some or all trainable weights.
            batches: Examples with labels; none gives empty counts.

        Returns:
            The counts over all batches.
        """
        ...

    def save_adapter(self, params: Params, folder: Path) -> None:
        """Write the trainable weights in PEFT's own format.

        Args:
            params: Some or all trainable weights.
            folder: Where to; made if it does not exist.
        """
        ...
