"""Duals whose primals carry autograd's graph, as the weights of an exact head do and all results that depend on them.

Tangents never carry a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from spry.core.errors import ModelError
from spry.forward.diagnostics import name_of
from spry.forward.dual import Dual, primal
from spry.forward.fallback import Replay, fallback


def any_requires_grad(values: Iterable[Any]) -> bool:
    """Tell whether a value requires grad; duals may be nested in lists and tuples."""
    for value in values:
        if isinstance(value, Dual):
            if value.primal_requires_grad():
                return True
        elif isinstance(value, Tensor):
            if value.requires_grad:
                return True
        elif isinstance(value, (list, tuple)) and any_requires_grad(value):
            return True
    return False


def with_autograd(func: Callable[..., Any], rule: Callable[..., Any] | None, args: Any, kwargs: Any) -> Any:
    """Compute a function of values that require grad: its value under autograd, its tangents by rule or fallback.

    The result's primal has autograd's graph, its tangents have none. A function that draws random numbers, where its
    rule would draw others, is a ModelError.
    """
    plain_args, plain_kwargs = tree_map(primal, (args, kwargs))
    leaves = tree_leaves((plain_args, plain_kwargs))
    random = Replay(next(x.device for x in leaves if isinstance(x, Tensor)))
    value = func(*plain_args, **plain_kwargs)
    if rule is not None and random.was_drawn:
        raise ModelError(
            f"{name_of(func)!r} draws random numbers, and the value that has a gradient would get others than its "
            "tangents; give dropout a key (spry.forward.dropout), or turn it off"
        )
    random.rewind()
    args, kwargs = tree_map(_detached, (args, kwargs))
    dual = rule(*args, **kwargs) if rule is not None else fallback(func, args, kwargs)
    return tree_map(lambda d, v: Dual(v, d.tangents) if isinstance(d, Dual) else v, dual, value)


def _detached(value: Any) -> Any:
    if isinstance(value, Dual):
        return Dual(value.primal.detach(), value.tangents) if value.primal_requires_grad() else value
    return value.detach() if isinstance(value, Tensor) else value
