"""Local auxiliary heads: each block guesses its gradient from a loss of its own, at its own output.

Block l has a linear head ``z = W_l x + b_l`` on its output x at the position that the classifier reads, in closed form
from sums over examples, and its guess is the gradient of the head's cross-entropy by the block's own weights. What
comes in from below is a constant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.core.keys import Key
from spry.core.params import Params, leaf, tree_map
from spry.estimators.blocks import Blocks, blocks_of
from spry.estimators.estimate import Estimate, Estimator
from spry.estimators.loss import Loss
from spry.estimators.passes import added, exact_top, leaving
from spry.estimators.passes import second_pass as pass_below
from spry.federated.closed_head.solve import Head, solve
from spry.federated.closed_head.sums import HeadSums

Position = Literal["first", "last"]
"""Which token of a text the classifier reads; padding is on the right."""

EVERY = slice(None)
"""All examples."""


class Labelled(Loss, Protocol):
    """The loss of a batch whose classes are known."""

    @property
    def batch(self) -> Mapping[str, Tensor]:
        """With ``attention_mask``, shape (B, T), and ``labels``, shape (B,)."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalHeads:
    """A head for each block under the last one."""

    heads: Sequence[Head]
    position: Position

    def slope_at(self, loss: Labelled, index: int, out: Tensor, rows: slice = EVERY) -> Tensor:
        """The gradient of block ``index``'s own loss at its output for some examples, shape (b, T, D)."""
        mask, labels = (loss.batch[name] for name in ("attention_mask", "labels"))
        weight, bias = (part.to(out) for part in self.heads[index])
        with torch.enable_grad():
            x = out.detach().requires_grad_()
            scores = F.linear(x[read_tokens({"attention_mask": mask[rows]}, self.position)], weight, bias)
            value = F.cross_entropy(scores, labels[rows].to(out.device), reduction="sum")
        return torch.autograd.grad(value / len(labels), x)[0]


def read_tokens(batch: Mapping[str, Tensor], position: Position) -> tuple[Tensor, Tensor]:
    """Index the token that is read of each text."""
    mask = batch["attention_mask"]
    texts = torch.arange(len(mask))
    return texts, (mask.sum(1) - 1).clamp(min=0) if position == "last" else torch.zeros_like(texts)


def auxiliary(heads: LocalHeads) -> Estimator:
    """Compute exact gradients of the last block and what is above it, and those of local losses below.

    It costs what the residual guess costs, and no gradient travels from block to block.

    Returns:
        The estimator; it draws nothing from its key.

    Source:
        Fournier et al. 2023 (arXiv 2306.06968), section 3, "Local Guess"; there the heads are trained.
    """

    def estimate(loss: Loss, params: Params, key: Key) -> Estimate:
        blocks = blocks_of(loss)
        owned = blocks.below_last(params)
        above = {name: params[name] for name in blocks.from_last(params)}
        sums: dict[str, Tensor] = tree_map(torch.zeros_like, params)
        value = 0.0
        for share, part in loss.microbatches():
            still = {name: value for name, value in params.items() if name not in above}
            top = exact_top(part, blocks, above, still, kept=(), guessing=False)
            found = _below(cast(Labelled, part), blocks, params, owned, heads) if owned else {}
            for name, gradient in added(top.gradients, found).items():
                sums[name].add_(gradient, alpha=share)
            value += share * top.value
        return Estimate(value=value, gradient=sums)

    return estimate


def _below(
    loss: Labelled, blocks: Blocks, params: Params, owned: Mapping[int, Sequence[str]], heads: LocalHeads
) -> Params:
    moving = {name: leaf(params[name]) for names in owned.values() for name in names}
    leaves = {index: {name: moving[name] for name in names} for index, names in owned.items()}
    return pass_below(
        loss,
        blocks,
        {**params, **moving},
        leaves,
        lambda index, out, rows: heads.slope_at(loss, index, out, rows),
    )


@torch.no_grad()
def fit_heads(
    losses: Iterable[Labelled], params: Params, *, classes: int, position: Position = "first"
) -> LocalHeads:
    """Fit the heads to the blocks' outputs in one pass over the examples; sums of clients add up to the same."""
    sums: dict[int, HeadSums] = {}
    for loss in losses:
        blocks, labels = blocks_of(loss), loss.batch["labels"]

        def note(index: int, output: object, loss: Labelled = loss, labels: Tensor = labels) -> None:
            out = output[0] if isinstance(output, tuple) else output
            assert isinstance(out, Tensor)  # blocks were found by it
            here = HeadSums.of(out[read_tokens(loss.batch, position)], labels, classes)
            sums[index] = sums[index].add(here) if index in sums else here

        with leaving(blocks, note):
            loss(params)
    return LocalHeads(heads=[solve(sums[index]) for index in sorted(sums)], position=position)
