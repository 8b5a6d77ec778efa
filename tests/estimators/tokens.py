"""A small float64 problem over sequences: narrow maps with fixed widening ones, tokens that mix, padding, a head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.core.keys import Key

D, C, DEPTH = 6, 3, 3
HEAD = ("head.weight", "head.bias")


def normal(key: Key, name: str, *shape: int) -> Tensor:
    return key.normal(name, shape).double()


def weights(rank: int = 2) -> dict[str, Tensor]:
    key = Key(7)
    shapes = {f"layer{i}.A": (rank, D) for i in range(DEPTH)} | {"head.weight": (C, D), "head.bias": (C,)}
    return {name: 0.5 * normal(key, name, *shape) for name, shape in shapes.items()}


@dataclass(frozen=True)
class TokenLoss:
    """Like a task's loss: rows are examples, padding is masked out of the mixing and the pooling."""

    x: Tensor
    mask: Tensor
    y: Tensor
    micro: int | None = None

    @staticmethod
    def make(examples: int = 4, tokens: int = 5, micro: int | None = None, padded: bool = True) -> TokenLoss:
        key = Key(3)
        lengths = torch.tensor([tokens - (i % min(3, tokens) if padded else 0) for i in range(examples)])
        mask = (torch.arange(tokens) < lengths[:, None]).long()
        x = normal(key, "x", examples, tokens, D)
        return TokenLoss(x, mask, torch.arange(examples) % C, micro)

    def __call__(self, params, *, checkpoint=False):
        return self.examples(params).mean()

    def examples(self, params):
        h, kept = self.x, self.mask.double().unsqueeze(-1)
        params = {**weights(), **params}
        for i in range(DEPTH):
            up = 0.5 * normal(Key(11), f"B{i}", D, params[f"layer{i}.A"].shape[0])
            h = h + torch.tanh(F.linear(F.linear(h, params[f"layer{i}.A"]), up))
            h = h + (h * kept).sum(1, keepdim=True) / kept.sum(1, keepdim=True)
        pooled = (h * kept).sum(1) / kept.sum(1)
        return F.cross_entropy(
            F.linear(pooled, params["head.weight"], params["head.bias"]), self.y, reduction="none"
        )

    def parts(self):
        size = len(self.y)
        cuts = [slice(i, min(i + (self.micro or size), size)) for i in range(0, size, self.micro or size)]
        return [((c.stop - c.start) / size, type(self)(self.x[c], self.mask[c], self.y[c])) for c in cuts]


def gradient(loss: TokenLoss, params):
    """The gradient by torch's autograd, which is not ours."""
    leaves = {n: w.clone().requires_grad_() for n, w in params.items()}
    return dict(zip(leaves, torch.autograd.grad(loss(leaves), list(leaves.values())), strict=True))
