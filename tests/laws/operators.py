"""PyTorch's own list of its operators with sample inputs, and the check of one sample against autograd."""

from __future__ import annotations

import sys
import types
import unittest
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from spry.core.errors import SpryError
from spry.forward import Dual
from spry.forward.dual import has_derivative
from spry.forward.promotion import forward_pass

UNDEFINED = {"empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided"}
"""Operators whose results are whatever memory held."""


UNLIKE_ITS_GRADIENT = {
    "as_strided_scatter",
    "nn.functional.max_unpool1d",
    "nn.functional.max_unpool2d",
    "nn.functional.max_unpool3d",
}
"""Operators that write one entry several times, where PyTorch's reverse mode is off and finite differences agree with
its forward mode."""


def operators() -> list[Any]:
    """The OpInfo of every operator; PyTorch's list imports a test library that it does not need for this."""
    stand_in: Any = types.ModuleType("expecttest")
    stand_in.TestCase = unittest.TestCase
    sys.modules.setdefault("expecttest", stand_in)
    from torch.testing._internal.common_methods_invocations import op_db

    return [op for op in op_db if op.name not in UNDEFINED]


def variants(op: Any) -> Iterator[Callable[..., Any]]:
    """The operator as a function, as a method, as an infix and in place."""
    yield op.op
    if op.method_variant is not None:
        yield op.method_variant
    if op.operator_variant is not None:
        yield op.operator_variant
    if op.inplace_variant is not None:
        yield lambda x, *args, **kwargs: op.inplace_variant(x * 1, *args, **kwargs)


def verdict(
    op: Any, function: Callable[..., Any], sample: Any, which: int | None = None, count: int = 1
) -> str:
    """``equal``, ``refused``, ``no tangents``, or what is wrong.

    Args:
        op: An ``OpInfo``.
        function: One of its variants.
        sample: A ``SampleInput``.
        which: The one tensor among the arguments that moves; all if None.
        count: Number of directions.
    """
    leaves, spec = tree_flatten((sample.input, tuple(sample.args), dict(sample.kwargs)))
    moving = [i for i, x in enumerate(leaves) if has_derivative(x) and x.layout is torch.strided]
    moving = moving if which is None else moving[which : which + 1]
    if not moving or sample.kwargs.get("dropout_p"):  # the engine draws attention's masks block by block
        return "no tangents"

    def run(*values: Tensor, function: Callable[..., Any] = function) -> tuple[Tensor, ...]:
        given = list(leaves)
        for i, value in zip(moving, values, strict=True):
            given[i] = value
        x, args, kwargs = tree_unflatten(given, spec)
        results = op.gradcheck_wrapper(
            function, x, *args, **kwargs
        )  # keeps a matrix symmetric, a mask a mask
        return tuple(y for y in tree_leaves(results) if isinstance(y, Tensor))

    primals = [leaves[i].detach().clone(memory_format=torch.contiguous_format) for i in moving]
    directions = [[torch.randn_like(x) for x in primals] for _ in range(count)]
    state = torch.get_rng_state()
    try:
        wanted = run(*(x.clone() for x in primals))
    except Exception:
        return "no tangents"  # the caller's mistake
    torch.set_rng_state(state)
    try:
        with forward_pass():
            duals = (Dual(leaves[i].detach(), t) for i, *t in zip(moving, *directions, strict=True))
            found = [(x.primal, x.tangents) if isinstance(x, Dual) else (x, None) for x in run(*duals)]
    except SpryError:
        return "refused"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    for k, direction in enumerate(directions):
        torch.set_rng_state(state)
        if wrong := _difference(op, partial(run, function=op.op), found, wanted, primals, direction, k):
            return wrong
    return "equal"


def _difference(
    op: Any,
    run: Callable[..., tuple[Tensor, ...]],
    found: list[tuple[Tensor, Any]],
    wanted: tuple[Tensor, ...],
    primals: list[Tensor],
    direction: list[Tensor],
    k: int,
) -> str | None:
    """Compare values, and tangents with PyTorch's forward mode, or else with its reverse mode."""
    if (wrong := _unlike([value for value, _ in found], wanted)) is not None:
        return f"value: {wrong}"
    moved = [i for i, x in enumerate(wanted) if has_derivative(x)]
    if any(columns is not None for i, (_, columns) in enumerate(found) if i not in moved):
        return "integers with tangents"
    tangents = [torch.zeros_like(wanted[i]) if found[i][1] is None else found[i][1][k] for i in moved]
    state = torch.get_rng_state()
    try:
        if op.name in UNLIKE_ITS_GRADIENT:
            raise RuntimeError("the gradient is another function's")
        agrees = _reverse_agrees(run, tangents, moved, primals, direction)
    except RuntimeError:  # no derivative, or none in reverse
        torch.set_rng_state(state)
        return _unlike_forward(run, tangents, moved, primals, direction)
    return None if agrees else "tangent: not the product with the gradient"


def _reverse_agrees(
    run: Callable[..., tuple[Tensor, ...]],
    tangents: list[Tensor],
    moved: list[int],
    primals: list[Tensor],
    direction: list[Tensor],
) -> bool:
    """``<u, J v> = <J' u, v>`` for a random u, with autograd's ``J' u``."""
    leaves = [x.clone().requires_grad_() for x in primals]
    with sdpa_kernel(SDPBackend.MATH):
        outputs = run(*leaves)
    if not all(bool(x.isfinite().all()) for x in (*outputs, *tangents)):
        raise RuntimeError("no product with infinity")
    u = [torch.randn_like(t) for t in tangents]
    pushed = sum((_dot(a, t) for a, t in zip(u, tangents, strict=True)), torch.zeros((), dtype=torch.float64))
    tracked = [(outputs[i], a) for i, a in zip(moved, u, strict=True) if outputs[i].requires_grad]
    if not tracked:
        return bool(pushed == 0)
    found = torch.autograd.grad(
        [y for y, _ in tracked], leaves, [a for _, a in tracked], allow_unused=True, materialize_grads=True
    )
    pulled = sum((_dot(g, v) for g, v in zip(found, direction, strict=True)), torch.zeros_like(pushed))
    rough = 10 * max(1e-6, *(torch.finfo(x.dtype).eps for x in (*tangents, *primals)))
    size = sum(a.norm().item() * t.norm().item() for a, t in zip(u, tangents, strict=True))
    return abs((pushed - pulled).item()) <= rough * (10 + size)


def _unlike_forward(
    run: Callable[..., tuple[Tensor, ...]],
    tangents: list[Tensor],
    moved: list[int],
    primals: list[Tensor],
    direction: list[Tensor],
) -> str | None:
    try:
        pushed = torch.func.jvp(run, tuple(primals), tuple(direction))[1]
    except RuntimeError:  # PyTorch has no derivative at all to compare with
        return None if all(bool(t.eq(0).all()) for t in tangents) else "tangent: of what has no derivative"
    return _unlike(tangents, [pushed[i] for i in moved])


def _dot(x: Tensor, y: Tensor) -> Tensor:
    return (x.to(y.dtype).conj() * y).real.sum().double()


def _unlike(found: Any, wanted: Any) -> str | None:
    try:
        torch.testing.assert_close(tuple(found), tuple(wanted), rtol=1e-6, atol=1e-7, equal_nan=True)
    except AssertionError as error:
        return str(error).replace("\n", " ")
    return None
