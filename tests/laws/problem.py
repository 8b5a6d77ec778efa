"""A small smooth problem in float64 for laws over all methods: three tanh units and a linear head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.core.keys import Key
from spry.core.params import Params
from spry.core.units import Unit
from spry.estimators.blocks import Blocks
from spry.estimators.loss import Loss

D, C, DEPTH = 5, 3, 3


def units(*, exact: bool = True) -> tuple[Unit, ...]:
    body = (Unit(name=f"layer{i}", names=(f"layer{i}.A", f"layer{i}.B")) for i in range(DEPTH))
    return (*body, Unit(name="head", names=("head.weight", "head.bias"), head=True, exact=exact))


UNITS = units()


def weights(seed: int = 0) -> dict[str, Tensor]:
    key = Key(seed).fold("weights")
    shapes = {f"layer{i}.{m}": s for i in range(DEPTH) for m, s in (("A", (2, D)), ("B", (D, 2)))}
    shapes |= {"head.weight": (C, D), "head.bias": (C,)}
    return {name: 0.5 * key.normal(name, shape).double() for name, shape in shapes.items()}


@dataclass(frozen=True)
class Batch:
    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class ProblemLoss:
    batch: Batch
    micro: int | None = None
    base: Params = field(default_factory=dict)

    @property
    def mask(self) -> None:
        return None

    @property
    def blocks(self) -> Blocks:
        """None: it is no module, so all its gradients are exact."""
        return Blocks(modules=(), prefixes=(), maps=())

    def __call__(self, params: Params, *, checkpoint: bool = False) -> Tensor:
        return self.examples(params).mean()

    def examples(self, params: Params, *, checkpoint: bool = False) -> Tensor:
        h = self.batch.x
        params = {
            **{n: w.to(h) for n, w in weights().items()},
            **self.base,
            **params,
        }  # a model keeps those not given
        for i in range(DEPTH):
            h = h + torch.tanh(F.linear(F.linear(h, params[f"layer{i}.A"]), params[f"layer{i}.B"]))
        return F.cross_entropy(
            F.linear(h, params["head.weight"], params["head.bias"]), self.batch.y, reduction="none"
        )

    def features(self) -> Tensor:
        return self.batch.x

    def microbatches(self) -> Sequence[tuple[float, Loss]]:
        if self.micro is None:
            return [(1.0, self)]
        size = len(self.batch.y)
        cuts = [slice(i, min(i + self.micro, size)) for i in range(0, size, self.micro)]
        return [
            ((c.stop - c.start) / size, ProblemLoss(Batch(self.batch.x[c], self.batch.y[c]), base=self.base))
            for c in cuts
        ]


def loss_of(batch: Batch, key: Key, base: Params) -> ProblemLoss:
    return ProblemLoss(batch, base=base)


def batch(seed: int, size: int = 8) -> Batch:
    key = Key(seed).fold("batch")
    x = key.normal("x", (size, D)).double()
    return Batch(x, (x[:, 0] > 0).long() + (x[:, 1] > 0.5).long())


def gradient(loss: ProblemLoss, params: Params) -> dict[str, Tensor]:
    """The gradient by torch's autograd, which is not ours."""
    leaves = {n: w.clone().requires_grad_() for n, w in params.items()}
    return dict(zip(leaves, torch.autograd.grad(loss(leaves), list(leaves.values())), strict=True))
