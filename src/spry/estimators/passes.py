"""The passes of the residual guess: one that is exact from some block on, and one that ends below it."""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spry.core.errors import ModelError
from spry.core.params import Params, leaf, tree_map
from spry.estimators.blocks import Blocks
from spry.estimators.carry import products
from spry.estimators.loss import Loss
from spry.forward.dropout import current_masks
from spry.forward.dual import Dual, primal
from spry.forward.examples import pieces
from spry.forward.hooks import hooked
from spry.forward.promotion import forward_pass
from spry.forward.recall import Recall, forwards, hidden_from, hidden_of, with_hidden


@dataclass(frozen=True, kw_only=True)
class Top:
    """What the first pass gives; ``guess`` is the exact gradient where it ends, if that was wanted."""

    value: float
    gradients: Params
    guess: Tensor | None
    calls: Mapping[int, Recall]


def exact_top(
    loss: Loss,
    blocks: Blocks,
    top: Params,
    others: Params,
    *,
    kept: Container[int] = (),
    guessing: bool = False,
    first: int | None = None,
) -> Top:
    """Run the model once, without a graph below a block, and differentiate from there on.

    What the last block computes waits until it is known which rows are read, as for an exact head.

    Args:
        top: Weights in that block and above its input.
        others: Weights below, which stay.
        kept: Blocks below it whose calls are remembered, and itself.
        guessing: Whether the gradient at the block's input is wanted.
        first: The block; the last one if None.
    """
    last = len(blocks) - 1
    first = last if first is None else first
    leaves = tree_map(leaf, top)
    waiting = blocks.from_block(top, last)
    given = {name: Dual(w, ()) if name in waiting else w for name, w in leaves.items()}
    calls: dict[int, Recall] = {}
    ends: list[Tensor] = []

    def enter(index: int, module: Any, args: Any, kwargs: Any) -> Any:
        hidden = primal(_hidden(args, kwargs))
        if index <= first:
            hidden = hidden.detach()  # of shared weights only the calls from here on have a graph
        if index in kept:
            call = Recall.of(module, *with_hidden(args, kwargs, hidden))
            calls[index] = call.settled() if module is blocks.modules[-1] else call
        if index == first and guessing:
            ends.append(hidden.requires_grad_())
        return with_hidden(args, kwargs, Dual(hidden, ()) if index == last else hidden)

    with torch.enable_grad(), forward_pass(), _entering(blocks, enter):
        value = primal(loss({**others, **given}))
    sought = [*leaves.values(), *ends]
    found: Sequence[Any] = torch.autograd.grad(value, sought, allow_unused=True) if sought else []
    if any(gradient is None for gradient in found):
        lost = [n for n, g in zip(leaves, found, strict=False) if g is None] or ["the block's input"]
        raise ModelError(
            f"the loss does not reach {lost[0]} from the lowest trained block on: this method trains weights in blocks "
            "and above them. Leave out other targets, or choose another method."
        )
    return Top(
        value=float(value.detach()),
        gradients=dict(zip(leaves, found, strict=False)),
        guess=found[-1] if ends else None,
        calls=calls,
    )


class _EnoughError(Exception):
    """Ends a pass whose rest nobody reads."""


GuessAt = Callable[[int, Tensor, slice], Tensor]
"""``(index of a block, its output for some examples, which ones) -> guess of the gradient there``."""


def second_pass(
    loss: Loss, blocks: Blocks, params: Params, leaves: Mapping[int, Params], guess_at: GuessAt
) -> dict[str, Tensor]:
    """Run the blocks again, a few examples at a time, and take each one's product as soon as its output is there."""
    found: dict[str, Tensor] = {}

    def run(index: int, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if index == len(blocks) - 1:
            raise _EnoughError
        outs: list[Tensor] = []
        output: Any = None
        for rows, some, named in pieces(blocks.layout, args, kwargs, current_masks()):
            output = forward(*some, **named)
            out = hidden_from(output)
            outs.append(out.detach())
            if index in leaves:
                found.update(added(found, products(out, leaves[index], guess_at(index, outs[-1], rows))))
        whole = torch.cat(outs) if len(outs) > 1 else outs[0]
        return (whole, *output[1:]) if isinstance(output, tuple) else whole

    with torch.enable_grad(), _running(blocks, run):
        try:
            loss(params)
        except _EnoughError:
            return found
    raise AssertionError("the last block was not called")


@contextmanager
def _entering(blocks: Blocks, enter: Callable[[int, Any, Any, Any], Any]) -> Generator[None]:
    """Call ``enter(index, block, args, kwargs)`` before each block, which may give other arguments."""
    with hooked(
        module.register_forward_pre_hook(
            lambda module, args, kwargs, order=order: enter(next(order), module, args, kwargs),
            with_kwargs=True,
        )
        for module, order in blocks.calls()
    ):
        yield


def _running(
    blocks: Blocks, run: Callable[[int, Callable[..., Any], Any, Any], Any]
) -> AbstractContextManager[None]:
    """Call ``run(index, forward, args, kwargs)`` in place of each block's ``forward``."""
    return forwards({
        module: lambda *args, forward=module.forward, order=order, **kwargs: run(
            next(order), forward, args, kwargs
        )
        for module, order in blocks.calls()
    })


@contextmanager
def leaving(blocks: Blocks, leave: Callable[[int, Any], Any]) -> Generator[None]:
    """Call ``leave(index, output)`` after each block under the last, which may give another output to go on."""
    last = len(blocks) - 1
    with hooked(
        module.register_forward_hook(
            lambda _, args, output, order=order: (
                leave(index, output) if (index := next(order)) < last else None
            )
        )
        for module, order in blocks.calls()
    ):
        yield


def _hidden(args: Any, kwargs: Any) -> Tensor:
    hidden = hidden_of(args, kwargs)
    assert hidden is not None  # blocks were found by it
    return hidden


def added(one: Params, other: Params) -> dict[str, Tensor]:
    """The sum of two gradients, of which either may lack names."""
    both = {name: one[name] + other[name] for name in one if name in other}
    return {**one, **other, **both}
