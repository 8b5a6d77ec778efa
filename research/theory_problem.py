"""Small problems in float64 whose every gradient is known: a linear loss, and a residual net on clustered classes.

Runs at commit 2e7a0ee (with its ``benchmarks`` in the place of ``research``), whose features it measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spry.core.keys import Key
from spry.core.params import Params
from spry.core.units import Unit

WIDTH, CLASSES, DEPTH = 8, 4, 8
UNITS = (
    *(Unit(name=f"layer{i}", names=(f"layer{i}.A", f"layer{i}.B"), size=2 * WIDTH) for i in range(DEPTH)),
    Unit(name="head", names=("head",), size=CLASSES * WIDTH, head=True),
)


def row(units: int, size: int) -> tuple[Unit, ...]:
    """Make L units of one tensor each, without a head."""
    return tuple(Unit(name=f"u{i}", names=(f"u{i}",), size=size) for i in range(units))


@dataclass(frozen=True)
class Linear:
    """``L(w) = <g, w>``, whose gradient is g everywhere."""

    gradient: Params

    def __call__(self, params: Params, *, checkpoint: bool = False) -> Tensor:
        """Evaluate."""
        first, *rest = [(self.gradient[name] * w).sum() for name, w in params.items()]
        return sum(rest, first)

    def parts(self) -> Sequence[tuple[float, Linear]]:
        """The loss as one piece."""
        return [(1.0, self)]


@dataclass(frozen=True)
class Batch:
    """Examples x (B, D) with classes y (B,)."""

    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class NetLoss:
    """Cross-entropy of ``h <- h + B tanh(A h)``, DEPTH times over, and a linear head."""

    batch: Batch

    def __call__(self, params: Params, *, checkpoint: bool = False) -> Tensor:
        """Evaluate."""
        h = self.batch.x
        for i in range(DEPTH):
            h = torch.add(h, torch.tanh(h @ params[f"layer{i}.A"].T) @ params[f"layer{i}.B"].T)
        return F.cross_entropy(h @ params["head"].T, self.batch.y)

    def parts(self) -> Sequence[tuple[float, NetLoss]]:
        """The loss as one piece."""
        return [(1.0, self)]


def start(key: Key) -> dict[str, Tensor]:
    """Draw the net's initial weights."""
    shapes = {f"layer{i}.{m}": s for i in range(DEPTH) for m, s in (("A", (1, WIDTH)), ("B", (WIDTH, 1)))}
    shapes["head"] = (CLASSES, WIDTH)
    return {name: 0.3 * key.normal(name, shape).double() for name, shape in shapes.items()}


def clients(number: int, alpha: float, examples: int, key: Key) -> list[Batch]:
    """Draw clients whose classes are mixed by Dirichlet's distribution; all see the same noisy clusters.

    Args:
        number: How many clients.
        alpha: Concentration; small is uneven.
        examples: Of each client.
        key: Where the numbers come from.

    Returns:
        Each client's data.
    """
    numbers: np.random.Generator = key.generator("clients")
    centres = key.normal("centres", (CLASSES, WIDTH)).double()
    found = []
    for c in range(number):
        y = torch.from_numpy(numbers.choice(CLASSES, size=examples, p=numbers.dirichlet([alpha] * CLASSES)))
        noise = key.fold("client", c).normal("noise", (examples, WIDTH)).double()
        found.append(Batch(torch.tanh(centres[y] + 1.2 * noise), y))
    return found


def gradient(loss: NetLoss, params: Params) -> dict[str, Tensor]:
    """The gradient by torch's own autograd."""
    leaves = {name: w.clone().requires_grad_() for name, w in params.items()}
    return dict(zip(leaves, torch.autograd.grad(loss(leaves), list(leaves.values())), strict=True))
