"""What a task is to the layers above: the owner of one model, seen through trainable weights and losses."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from spry.core.keys import Key
from spry.core.params import Params
from spry.core.unit import Unit
from spry.data.encoded import Batch
from spry.forward.loss import Loss
from spry.metrics.stats import Stats

__all__ = ["Batch", "Task"]


class Task(Protocol):
    """Owns one model for all clients; no method changes its weights."""

    @property
    def units(self) -> tuple[Unit, ...]:
        """Trainable weights by module, in model order, the head last."""
        ...

    def init(self) -> Params:
        """Copy the trainable weights at the start.

        Returns:
            All trainable weights, in model order.
        """
        ...

    def loss(self, batch: Batch, key: Key) -> Loss:
        """Bind the loss to one batch.

        Args:
            batch: Examples with labels.
            key: Where dropout masks come from, if dropout is on.

        Returns:
            The mean loss of the batch as a function of the trainable weights.
        """
        ...

    def evaluate(self, params: Params, batches: Iterable[Batch]) -> Stats:
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
