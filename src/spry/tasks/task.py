"""What a task is to the layers above: the owner of one model, seen through trainable weights and losses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from spry.core.keys import Key
from spry.core.params import Params
from spry.core.units import Unit
from spry.data.encoded import Batch
from spry.estimators.loss import Loss
from spry.tasks.score import Score

__all__ = ["Batch", "Metrics", "Score", "Task", "details", "sums"]


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


def details(metrics: Metrics) -> Mapping[str, Any]:
    """What a log keeps of metrics beside the score, as their method ``details`` says if they have one, for JSON."""
    return getattr(metrics, "details", dict)()


_Metrics = TypeVar("_Metrics", bound=Metrics)


def sums(metrics: _Metrics) -> _Metrics:
    """Leave out of metrics what is of single examples, as their method ``sums`` does if they have one.

    Examples stay with a client. What a run logs of them is made of sums in every runtime, and so the same in all.
    """
    return getattr(metrics, "sums", lambda: metrics)()


class Task(Protocol):
    """Owns one model for all clients; no method changes its weights."""

    @property
    def units(self) -> tuple[Unit, ...]:
        """Trainable weights by module, in model order, the head last."""
        ...

    @property
    def score(self) -> Score: ...

    def init(self) -> Params:
        """Copy the trainable weights at the start, in model order."""
        ...

    def loss(self, batch: Batch, key: Key, base: Params) -> Loss:
        """Bind the mean loss to one batch; ``base`` has the trainable weights that calls will not give."""
        ...

    def evaluate(self, params: Params, batches: Iterable[Batch]) -> Metrics:
        """Evaluate some or all trainable weights; no batch gives empty counts."""
        ...

    def save_adapter(self, params: Params, folder: Path) -> None:
        """Write the trainable weights in PEFT's own format, into a folder that is made if it is missing."""
        ...
