"""Operators that other packages add to PyTorch, known by name: they exist only once their package is loaded.

PyTorch's own forward mode takes an operator without a derivative for a constant, without a word. So an operator
from outside needs a rule here, or a derivative of its own, or it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor

from spry.core.errors import ModelError
from spry.forward.dual import Dual, num_tangents
from spry.forward.registry import RULES, Rule

PYTORCH = frozenset({"aten", "prims", "prim", "quantized", "_c10d_functional"})
"""Namespaces of PyTorch itself."""

CUSTOM_OPS: dict[str, Rule] = {}
"""Operators by qualified name and their rules; each moves to ``RULES`` when it is first called."""


def register_custom_op(name: str) -> Callable[[Rule], Rule]:
    """Register the decorated function as the rule of an operator whose package may not be loaded yet.

    The name is ``"namespace::operator"``, not one of PyTorch's own: else a ModelError is raised. The rule is called
    with the operator itself, then with its arguments, some of them ``Dual``. It returns what the operator returns, with
    ``Dual`` in place of the tensors that depend on a dual argument.

    Example:
        >>> from spry.forward import Dual, register_custom_op
        >>> @register_custom_op("my_package::double")
        ... def _(func, x):
        ...     return Dual(func(x.primal), [func(t) for t in x.tangents])
    """
    namespace, separator, operator = name.partition("::")
    if not separator or not namespace or not operator:
        raise ModelError(f"a custom operator is registered as 'namespace::operator', {name!r} was given")
    if namespace in PYTORCH:
        raise ModelError(f"{name!r} is an operator of PyTorch; register its rule with spry.forward.rule")

    def register(body: Rule) -> Rule:
        CUSTOM_OPS[name] = body
        return body

    return register


@register_custom_op("bitsandbytes::gemm_4bit")
def _gemm_4bit(
    func: Callable[..., Tensor],
    input: Any,
    packed: Tensor,
    shape: Sequence[int],
    absmax: Tensor,
    blocksize: int,
    kind: str,
    bias: Any = None,
    *nested: Tensor | None,
    **scales: Tensor | None,
) -> Dual:
    # bitsandbytes' linear layer over 4-bit weights, y = x W' + b. Value and derivatives go through together, so that
    # the weight is unpacked once, unless their copy side by side would be larger than the unpacked weight.
    if not isinstance(input, Dual) or isinstance(bias, Dual):
        raise ModelError(
            "bitsandbytes' 4-bit layer has a derivative for its input only, not for its weight or bias"
        )
    x, tangents = input.pair()

    def product(x: Tensor) -> Tensor:
        return func(x, packed, shape, absmax, blocksize, kind, None, *nested, **scales)

    if (1 + num_tangents(input)) * x.numel() <= prod(shape):
        out, *columns = product(torch.stack([x, *tangents])).unbind(0)
    else:
        out, *columns = (product(t) for t in (x, *tangents))
    return Dual(out if bias is None else out + bias, columns)


def custom_rule(func: Callable[..., Any]) -> Rule | None:
    """The rule of an operator from another package; None for one that PyTorch can differentiate.

    An operator with neither a rule nor a derivative is a ModelError: its derivative would be lost.
    """
    overloads = _overloads(func)
    if not overloads or overloads[0].namespace in PYTORCH:
        return None
    name = overloads[0].name().partition(".")[0]
    if name in CUSTOM_OPS:
        RULES[func] = partial(CUSTOM_OPS[name], func)
        return RULES[func]
    if not any(_differentiable(overload.name()) for overload in overloads):
        raise ModelError(
            f"the operator {name!r} has no derivative, so the slope through it would be lost; register a rule "
            "with spry.forward.register_custom_op, or run the model without the package that adds it"
        )
    return None


def _overloads(func: Callable[..., Any]) -> list[torch._ops.OpOverload]:
    if isinstance(func, torch._ops.OpOverloadPacket):
        return [getattr(func, name) for name in func.overloads()]
    return [func] if isinstance(func, torch._ops.OpOverload) else []


def _differentiable(name: str) -> bool:
    keys = ("AutogradCPU", "AutogradCUDA", "CompositeImplicitAutograd")
    return any(torch._C._dispatch_has_kernel_for_dispatch_key(name, key) for key in keys)
