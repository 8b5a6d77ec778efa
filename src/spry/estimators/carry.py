"""How a guess of the gradient is carried down through one residual block, and the block's own exact product with it.

The exact gradient at a block's input is ``J' d`` for the gradient ``d`` at its output. The residual stream is the part
of the block that passes no linear map, or no attention; the guess keeps this part of ``J`` only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from spry.core.errors import ModelError
from spry.core.params import Params
from spry.forward.hooks import hooked
from spry.forward.recall import Recall, forwards, hidden_from, hidden_of, with_hidden

Guess = Literal["identity", "norm", "mlp", "full"]
Carry = Callable[[Recall, Sequence[nn.Module], Params, Tensor, bool], tuple[Params, Tensor]]
"""``(call of a block, its maps, weights, d, on) -> (gradients of the weights, d at the block's input)``.

The weights are leaves, by their names in the block; ``d`` at the input is only read if ``on``.
"""
_INPUT = "the block's input"
"""What it is called among names of weights."""


def identity(
    recall: Recall, maps: Sequence[nn.Module], leaves: Params, d: Tensor, on: bool
) -> tuple[Params, Tensor]:
    """Carry the guess as it is."""
    with torch.enable_grad(), recall.masked():
        out = hidden_from(recall.again(*recall.args, weights=_cast(recall, leaves), **recall.kwargs))
    return products(out, leaves, d), d


def norm(
    recall: Recall, maps: Sequence[nn.Module], leaves: Params, d: Tensor, on: bool
) -> tuple[Params, Tensor]:
    """Carry the guess through what passes no linear map: norms and sums.

    The block runs a second time with the outputs of its maps as they were, which costs no product of matrices.
    """
    with torch.set_grad_enabled(bool(leaves)), recall.masked(), _outputs(maps) as outputs:
        out = hidden_from(recall.again(*recall.args, weights=_cast(recall, leaves), **recall.kwargs))
    gradients = products(out, leaves, d)
    if not on:
        return gradients, d
    args, kwargs, hidden = _from_leaf(recall)
    with torch.enable_grad(), recall.masked(), _fixed(outputs):
        out = hidden_from(recall.again(*args, **kwargs))
    return gradients, torch.autograd.grad(out, hidden, d)[0]


def mlp(
    recall: Recall, maps: Sequence[nn.Module], leaves: Params, d: Tensor, on: bool
) -> tuple[Params, Tensor]:
    """Carry the guess through all but attention: queries, keys and values count as constants of the block's input.

    Own weights still get the exact product: what attention passes back to its operands goes on to the weights that
    these come from, and no further.
    """
    args, kwargs, hidden = _from_leaf(recall) if on else (recall.args, dict(recall.kwargs), None)
    cut = _CutAtAttention()
    with torch.enable_grad(), recall.masked(), cut:
        out = hidden_from(recall.again(*args, weights=_cast(recall, leaves), **kwargs))
    if not cut.called:
        raise ModelError(
            f"{type(recall.layer).__name__} computes attention by other means than "
            "torch.nn.functional.scaled_dot_product_attention, so the guess 'mlp' cannot leave attention out. Set "
            "method.guess = 'identity'."
        )
    ends = [*leaves.values(), *cut.after, *([] if hidden is None else [hidden])]
    found = torch.autograd.grad(out, ends, d.to(out.dtype), retain_graph=True, allow_unused=True)
    above, passed = found[: len(leaves)], found[len(leaves) : len(leaves) + len(cut.after)]
    below = cut.products(list(leaves.values()), passed)
    gradients = {
        name: _sum(leaf, one, other)
        for (name, leaf), one, other in zip(leaves.items(), above, below, strict=True)
    }
    return gradients, d if hidden is None else found[-1]


def whole(
    recall: Recall, maps: Sequence[nn.Module], leaves: Params, d: Tensor, on: bool
) -> tuple[Params, Tensor]:
    """Carry the exact gradient: nothing is left out of the block."""
    args, kwargs, hidden = _from_leaf(recall) if on else (recall.args, dict(recall.kwargs), None)
    with torch.enable_grad(), recall.masked():
        out = hidden_from(recall.again(*args, weights=_cast(recall, leaves), **kwargs))
    if hidden is None:
        return products(out, leaves, d), d
    found = products(out, {**leaves, _INPUT: hidden}, d)
    return found, found.pop(_INPUT)


CARRIES: Mapping[Guess, Carry] = {"identity": identity, "norm": norm, "mlp": mlp, "full": whole}


def products(out: Tensor, leaves: Params, d: Tensor) -> dict[str, Tensor]:
    """The exact vector-Jacobian products ``(d out / d w)' d`` of a block's weights."""
    if not leaves:
        return {}
    found = torch.autograd.grad(out, list(leaves.values()), d.to(out.dtype), allow_unused=True)
    return {name: _sum(leaf, one) for (name, leaf), one in zip(leaves.items(), found, strict=True)}


def _sum(leaf: Tensor, *parts: Tensor | None) -> Tensor:
    there = [part for part in parts if part is not None]
    return sum(there[1:], start=there[0]) if there else torch.zeros_like(leaf)


def _cast(recall: Recall, leaves: Params) -> Params:
    return {name: leaf.to(recall.weights[name].dtype) for name, leaf in leaves.items()}


def _from_leaf(recall: Recall) -> tuple[tuple[Any, ...], dict[str, Any], Tensor]:
    hidden = hidden_of(recall.args, recall.kwargs)
    assert hidden is not None  # blocks were found by it
    leaf = hidden.detach().requires_grad_()
    return *with_hidden(recall.args, recall.kwargs, leaf), leaf


class _CutAtAttention(TorchFunctionMode):
    """Cuts autograd's graph at the operands of attention; ``after`` are the leaves that it goes on from."""

    def __init__(self) -> None:
        super().__init__()
        self.called = False
        self.before: list[Tensor] = []
        self.after: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        self.called = True
        names = ("query", "key", "value")
        kwargs = {name: self._cut(value) if name in names else value for name, value in kwargs.items()}
        return func(*map(self._cut, args[:3]), *args[3:], **kwargs)

    def _cut(self, operand: Tensor) -> Tensor:
        if not operand.requires_grad:
            return operand
        self.before.append(operand)
        self.after.append(operand.detach().requires_grad_())
        return self.after[-1]

    def products(self, leaves: Sequence[Tensor], passed: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        """What the weights below attention get of the gradients that were passed to its operands."""
        pairs = [
            (operand, gradient)
            for operand, gradient in zip(self.before, passed, strict=True)
            if gradient is not None
        ]
        if not pairs or not leaves:
            return [None] * len(leaves)
        operands, gradients = zip(*pairs, strict=True)
        return torch.autograd.grad(operands, leaves, gradients, allow_unused=True)


Outputs = dict[nn.Module, list[Any]]


@contextmanager
def _outputs(maps: Sequence[nn.Module]) -> Generator[Outputs]:
    """Note what maps give while the context is open."""
    outputs: Outputs = {module: [] for module in maps}
    with hooked(
        module.register_forward_hook(lambda module, _, output: outputs[module].append(output.detach()))
        for module in maps
    ):
        yield outputs


def _fixed(outputs: Outputs) -> AbstractContextManager[None]:
    """Let maps give what they gave, without computing it, while the context is open."""
    return forwards({
        module: lambda *_, queue=deque(given), **__: queue.popleft() for module, given in outputs.items()
    })
