"""A tiny model and its clients, for what does not depend on what is learnt: eight residual layers and a head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.core.keys import Key
from spry.core.params import Params
from spry.core.units import Unit
from spry.estimators.loss import Loss
from spry.tasks.score import Score

WIDTH, DEPTH, CLASSES, BATCH = 16, 8, 3, 8


@dataclass(frozen=True)
class LayersLoss:
    """Cross entropy of ``h <- h + tanh(W h)``, layer by layer, and a linear head."""

    x: Tensor
    y: Tensor
    base: Params

    def __call__(self, params: Params, *, checkpoint: bool = False) -> Tensor:
        """Evaluate."""
        given, h = {**self.base, **params}, self.x
        for layer in range(DEPTH):
            h = torch.tanh(F.linear(h, given[f"layer{layer}"])) + h
        return F.cross_entropy(F.linear(h, given["head"]), self.y)

    def microbatches(self) -> Sequence[tuple[float, Loss]]:
        """Stay whole."""
        return [(1.0, self)]


@dataclass(frozen=True)
class Losses:
    """Metrics: the mean loss over batches."""

    examples: int
    total: float

    @property
    def loss(self) -> float:
        """The mean over examples."""
        return self.total / self.examples

    def values(self) -> dict[str, float | None]:
        """Give the score."""
        return {"cross_entropy": self.loss}

    def __add__(self, other: Losses) -> Losses:
        return Losses(self.examples + other.examples, self.total + other.total)


class Layers:
    """The task."""

    units = (
        *(Unit(name=f"layer{i}", names=(f"layer{i}",)) for i in range(DEPTH)),
        Unit(name="head", names=("head",), head=True, exact=True),
    )
    score = Score(name="cross_entropy", higher_is_better=False)

    def init(self) -> Params:
        """Draw the weights."""
        key = Key(0).fold("layers")
        shapes = {f"layer{i}": (WIDTH, WIDTH) for i in range(DEPTH)} | {"head": (CLASSES, WIDTH)}
        return {name: 0.1 * key.normal(name, shape) for name, shape in shapes.items()}

    def loss(self, batch: Any, key: Key, base: Params) -> Loss:
        """Bind a batch."""
        return LayersLoss(*batch, base)

    def evaluate(self, params: Params, batches: Iterable[Any]) -> Losses:
        """Sum the losses up."""
        losses = [float(LayersLoss(*batch, {**self.init(), **params})(params)) for batch in batches]
        return Losses(BATCH * len(losses), BATCH * sum(losses))


@dataclass(frozen=True)
class Crowd:
    """The clients, whose classes are the largest of three features."""

    number: int = 100
    validation: tuple[Any, ...] = ()

    @property
    def test(self) -> list[Any]:
        """Batches of nobody's."""
        return [self._batch("test", i) for i in range(4)]

    def trainable(self) -> list[int]:
        """Name all."""
        return list(range(self.number))

    def examples(self, client: int) -> int:
        """Count: some have more than others."""
        return BATCH * (1 + client % 3)

    def batches(self, client: int, round: int, key: Key) -> list[Any]:
        """Give one batch, which is the client's own."""
        return [self._batch("client", client)]

    def held_out(self, client: int) -> list[Any]:
        """Give one batch more."""
        return [self._batch("held out", client)]

    def _batch(self, part: str, number: int) -> Any:
        x = Key(1).fold(part, number).normal("x", (BATCH, WIDTH))
        return x, x[:, :CLASSES].argmax(dim=1)
