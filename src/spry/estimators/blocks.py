"""The residual blocks of a model, as estimators see them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn

from spry.core.errors import ModelError
from spry.estimators.loss import Loss
from spry.forward.examples import Layout


@dataclass(frozen=True, kw_only=True, eq=False)
class Blocks:
    """Blocks that a model calls one after the other, each with the hidden state that the one before gave.

    A module that is called several times, as in models whose layers share weights, stands for as many blocks. The
    gradient of its weights is the sum over these.

    Args:
        modules: The L blocks, in the order of their calls.
        prefixes: What the names of each block's trainable weights begin with, in the same order.
        maps: Each block's linear maps, of nested ones (an adapter around a layer) the outermost.
        layout: Which arguments of the blocks' calls are cut to compute a few examples alone; None if that is not
            possible.
        state_bytes: What the hidden state of a token takes; 0 if it is not known, or if no tape of several blocks may
            be kept.
    """

    modules: tuple[nn.Module, ...]
    prefixes: tuple[str, ...]
    maps: tuple[tuple[nn.Module, ...], ...]
    layout: Layout | None = None
    state_bytes: int = 0

    def __len__(self) -> int:
        return len(self.modules)

    def calls(self) -> list[tuple[nn.Module, Iterator[int]]]:
        """List each module once, with the numbers of the blocks that its calls of one pass are."""
        orders: dict[nn.Module, list[int]] = {}
        for index, module in enumerate(self.modules):
            orders.setdefault(module, []).append(index)
        return [(module, iter(order)) for module, order in orders.items()]

    def below_last(self, names: Iterable[str]) -> dict[int, list[str]]:
        """Sort the weights that lie in a block under the last one by their block."""
        found: dict[int, list[str]] = {}
        for name in names:
            for index, prefix in enumerate(self.prefixes[:-1]):
                if name.startswith(prefix):
                    found.setdefault(index, []).append(name)
        return dict(sorted(found.items()))

    def from_last(self, names: Iterable[str]) -> set[str]:
        """Choose the weights that lie in the last block or above; shared ones may lie below it, too."""
        return self.from_block(names, len(self) - 1)

    def from_block(self, names: Iterable[str], first: int) -> set[str]:
        """Choose the weights that lie in a block or above its input; shared ones may lie below it, too."""
        inside, below = self.prefixes[first:], self.prefixes[:first]
        return {name for name in names if name.startswith(inside) or not name.startswith(below)}


@runtime_checkable
class _HasBlocks(Protocol):
    @property
    def blocks(self) -> Blocks: ...


def blocks_of(loss: Loss) -> Blocks:
    """Look up the blocks that a loss has in its attribute ``blocks``; ModelError if it has none."""
    if not isinstance(loss, _HasBlocks):
        raise ModelError(
            f"{type(loss).__name__} does not say which residual blocks its model has (its attribute 'blocks'), so no "
            "guess can be carried through them. Choose another method, such as fedavg."
        )
    return loss.blocks
