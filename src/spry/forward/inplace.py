"""Operations that write: done out of place and rebound where that is the same, refused by name where it is not."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves

from spry.core.errors import ModelError
from spry.forward.diagnostics import count_dropped, name_of
from spry.forward.dual import Dual, num_tangents, primal
from spry.forward.fallback import fallback
from spry.forward.promotion import promote

_PURE = frozenset({"requires_grad_", "retains_grad_"})

_STILL = frozenset({
    "detach_",
    "bernoulli_",
    "cauchy_",
    "exponential_",
    "geometric_",
    "log_normal_",
    "normal_",
    "random_",
    "uniform_",
})
"""Operations whose result does not move with what they write to."""

_DUNDER = {f"__i{name}__": name for name in ("add", "sub", "mul", "pow")}
_DUNDER |= {
    "__idiv__": "div",
    "__itruediv__": "div",
    "__ifloordiv__": "floor_divide",
    "__imod__": "remainder",
    "__setitem__": "__setitem__",
}


def _place_of_inplace(func: Any) -> int | None:
    """At which position a function takes its argument ``inplace``."""
    try:
        names = list(inspect.signature(func).parameters)
    except (TypeError, ValueError):
        return None
    return names.index("inplace") if "inplace" in names else None


_OPTIONAL = {
    f: place for f in vars(F).values() if callable(f) and (place := _place_of_inplace(f)) is not None
}
"""Functions that write only if told to by an argument, and that argument's position."""


def writes(func: Callable[..., Any], args: Any, kwargs: Any) -> bool:
    """Tell whether a call writes into an argument, as ``add_``, ``x[i] = y``, ``out=`` and ``inplace=True`` do."""
    schema = getattr(func, "_schema", None)
    if schema is not None:
        return schema.is_mutable
    if func in _OPTIONAL:
        place = _OPTIONAL[func]
        return kwargs.get("inplace") is True or (len(args) > place and args[place] is True)
    name = getattr(func, "__name__", "")
    written = name.endswith("_") and not name.endswith("__")
    return written or name in _DUNDER or kwargs.get("out") is not None


def in_place(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Do an operation that writes into its first argument, which is rebound to the result and returned.

    A written tensor that cannot have tangents, or shares its memory with a tensor in use, is a ModelError.
    """
    name = name_of(func)
    if name in _PURE:
        return args[0]
    target = args[0] if args and kwargs.get("out") is None else None
    if not isinstance(target, Dual):
        target = promote(target, num_tangents(*tree_leaves((args, kwargs))), name)
    result = _result(func, name, target, args[1:], kwargs)
    result = result if isinstance(result, Dual) else constant(result, num_tangents(target))
    if not torch.can_cast(result.dtype, target.dtype):
        raise ModelError(f"{name!r} writes {result.dtype} into a tensor of {target.dtype}")
    if result.shape != target.shape:
        raise ModelError(
            f"{name!r} changes a tensor's shape in place from {tuple(target.shape)} to {tuple(result.shape)}"
        )
    target.assign(result, name)
    return None if func is Tensor.__setitem__ else target


def constant(value: Tensor, k: int) -> Dual:
    """Make a dual number whose ``k`` derivatives are zero."""
    return Dual(value, (torch.zeros_like(value) for _ in range(k)))


def _result(func: Callable[..., Any], name: str, target: Dual, args: Any, kwargs: Any) -> Any:
    if func is Tensor.__setitem__:
        return _assigned(target, *args)
    if name in _STILL:
        count_dropped(func)
        return func(target.primal.detach().clone(), *map(primal, args), **kwargs)
    if name == "copy_":
        source = args[0]
        return torch.zeros_like(target) + (source.to(target.dtype) if isinstance(source, Tensor) else source)
    if func in _OPTIONAL:
        place = _OPTIONAL[func] - 1
        return func(
            target, *args[:place], *args[place + 1 :], **{k: v for k, v in kwargs.items() if k != "inplace"}
        )
    pure = _counterpart(name)
    if pure is not None:
        return pure(target, *args, **kwargs)

    def edited(x: Tensor, *a: Any, **k: Any) -> Tensor:
        copy = x.clone()
        func(copy, *a, **k)
        return copy

    edited.__name__ = name
    return fallback(edited, (target, *args), kwargs)


def _counterpart(name: str) -> Callable[..., Any] | None:
    """The function that computes the same out of place."""
    pure = _DUNDER.get(name, name.removesuffix("_"))
    return next((getattr(home, pure) for home in (Tensor, F, torch) if hasattr(home, pure)), None)


def _assigned(target: Dual, index: Any, value: Any) -> Dual:
    """``x[index] = value`` on a copy of the primal and of each tangent."""

    def written(base: Tensor, part: Any) -> Tensor:
        copy = base.clone()
        copy[index] = part
        return copy

    parts = value.tangents if isinstance(value, Dual) else (0,) * num_tangents(target)
    return Dual(written(target.primal, primal(value)), map(written, target.tangents, parts))
