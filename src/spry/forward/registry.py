"""Which rule computes the dual result of which PyTorch function: now, or lazily, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Rule = Callable[..., Any]

RULES: dict[Callable[..., Any], Rule] = {}
"""PyTorch functions and the rules that replace them; written as rules are registered."""

LazyRule = Callable[..., Any]
"""Takes a function and its arguments; returns the lazy result, or NotImplemented where it is to be computed now."""

LAZY_RULES: dict[Callable[..., Any], LazyRule] = {}
"""Row-wise PyTorch functions and what appends a call of them to a program; asked before ``RULES``."""


def rule(*functions: Callable[..., Any]) -> Callable[[Rule], Rule]:
    """Register the decorated function as the rule of these PyTorch functions.

    The rule is called with the arguments of the PyTorch function, some of them ``Dual``, and returns what that
    function returns, with ``Dual`` in place of the tensors that depend on a dual argument.

    Args:
        *functions: The functions as PyTorch hands them to ``__torch_function__``, all with one signature.

    Returns:
        The decorator; it gives the rule back unchanged.

    Example:
        >>> from spry.forward import Dual, rule
        >>> def triple(x):
        ...     return torch.overrides.handle_torch_function(triple, (x,), x) if type(x) is Dual else 3 * x
        >>> @rule(triple)
        ... def _(x):
        ...     return Dual(3 * x.primal, tuple(3 * t for t in x.tangents))
    """

    def register(body: Rule) -> Rule:
        RULES.update(dict.fromkeys(functions, body))
        return body

    return register


def lazy_rule(*functions: Callable[..., Any]) -> Callable[[LazyRule], LazyRule]:
    """Register the decorated function as the lazy rule of some PyTorch functions."""

    def register(body: LazyRule) -> LazyRule:
        LAZY_RULES.update(dict.fromkeys(functions, body))
        return body

    return register


def apply_lazy_rule(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Append a call to a row-wise program, or return NotImplemented if it is to be computed now."""
    lazy = LAZY_RULES.get(func)
    return NotImplemented if lazy is None or not args else lazy(func, *args, **kwargs)


def family(functions: Iterable[Callable[..., Any]]) -> Callable[[Rule], Rule]:
    """Register one law for many functions; the law is called with the function as its first argument."""

    def register(law: Rule) -> Rule:
        RULES.update({function: partial(law, function) for function in functions})
        return law

    return register


def named(names: str) -> list[Callable[..., Any]]:
    """The functions of these names (with spaces between) in PyTorch; names that this version lacks are skipped."""
    homes = (torch, Tensor, F, torch.special)
    found = [getattr(home, name) for name in names.split() for home in homes if hasattr(home, name)]
    return list(dict.fromkeys(f for f in found if callable(f)))
