"""Counts floating-point operations, exactly and alike on every machine.

The counts are of matrix products, attention and convolutions, a multiplication and an addition as two; what is
elementwise is left out. A formula gives an operation's count from the shapes of its arguments. torch's own are used,
and here stand those that it lacks. torch's ``FlopCounterMode`` is not used itself: it hooks into the modules of all
threads, for counts by module that nobody asks for here, and takes longer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

Formula = Callable[..., int]
"""The operations of a call, from its arguments and, as ``out_val``, its result."""

_aten: Any = torch.ops.aten


def _product(a: Tensor, b: Tensor, *_: Any, **__: Any) -> int:
    """A row of A times a matrix, for each of A's rows; of several matrices each row meets one."""
    return 2 * prod(a.shape) * b.shape[-1]


def _vector(matrix: Tensor, _vector: Tensor, *_: Any, **__: Any) -> int:
    return 2 * prod(matrix.shape)


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    return sdpa_flop_count(query.shape, key.shape, value.shape)


def _attention_backward(slope: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    return sdpa_backward_flop_count(slope.shape, query.shape, key.shape, value.shape)


def _after_input(formula: Formula) -> Formula:
    return lambda _input, *args, **kwargs: formula(*args, **kwargs)


_ADDED = {
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention_for_cpu_backward": _attention_backward,
    "_grouped_mm": _product,
    "_addmm_activation": _after_input(_product),
    "mv": _vector,
    "addmv": _after_input(_vector),
}
"""Of PyTorch's own operations; an older PyTorch lacks some of them."""

FORMULAS: Mapping[Any, Formula] = flop_registry | {
    getattr(_aten, name): formula for name, formula in _ADDED.items() if hasattr(_aten, name)
}

OUTSIDE: Mapping[str, Formula] = {
    "transformers::grouped_mm_fallback": _product,
    "transformers::grouped_mm_fallback_backward": lambda *args, **_: 2 * _product(*args),
}
"""Operators of other packages, by qualified name: what they call within is not seen from outside."""


class OperationCounter(TorchDispatchMode):
    """Counts, in ``total``, the operations of what this thread computes while the context is open.

    Operations of the backward pass and of ``torch.func`` are counted as well; results are the same bits as without.

    >>> with OperationCounter() as counter:
    ...     _ = torch.ones(2, 3) @ torch.ones(3, 5)
    >>> counter.total
    60
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        formula, composite = _known(func)
        if composite:  # where autograd is off, it has not been taken apart yet
            with self:
                return func.decompose(*args, **(kwargs or {}))
        out = func(*args, **(kwargs or {}))
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


@cache
def _known(func: Any) -> tuple[Formula | None, bool]:
    """An operation's formula, and whether it is made of operations that may have one."""
    if not isinstance(func, torch._ops.OpOverload):
        return FORMULAS.get(func), False
    formula = FORMULAS.get(func.overloadpacket) or OUTSIDE.get(func.name().partition(".")[0])
    return formula, formula is None and func._can_decompose()
