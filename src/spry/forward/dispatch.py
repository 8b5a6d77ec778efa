"""What happens when a PyTorch function meets a ``Dual``: metadata, refusal, rule or fallback, in that order."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from spry.core.errors import ModelError
from spry.forward.autograd import any_requires_grad, with_autograd
from spry.forward.diagnostics import count_dropped, name_of
from spry.forward.dual import Dual, handler, primal
from spry.forward.fallback import fallback
from spry.forward.inplace import in_place, writes
from spry.forward.registry import RULES, apply_lazy_rule, named


def _properties(names: str) -> list[Callable[..., Any]]:
    return [getattr(Tensor, name).__get__ for name in names.split() if hasattr(Tensor, name)]


METADATA = frozenset(
    _properties(
        "shape dtype device ndim layout names name itemsize nbytes _version requires_grad grad grad_fn is_leaf is_cpu "
        "is_cuda is_xpu is_mps is_meta is_mkldnn is_mtia is_xla is_quantized is_sparse is_sparse_csr is_nested"
    )
    + named("size dim ndimension numel nelement stride storage_offset element_size get_device")
    + named("is_floating_point is_complex is_contiguous is_signed is_inference result_type")
    + [Tensor.__len__, Tensor.__hash__, Tensor.get_device]
)
"""Functions answered by the wrapper itself: they read no value."""

REFUSED = frozenset(
    _properties("data _data")
    + [getattr(Tensor, name).__set__ for name in ("data", "grad", "requires_grad", "real", "imag")]
    + named(
        "item tolist numpy data_ptr untyped_storage storage share_memory_ set_ resize_ resize_as_ backward"
    )
    + named(
        "backward register_hook __array__ __float__ __int__ __index__ __complex__ __dlpack__ __reduce_ex__ "
        "__deepcopy__"
    )
)
"""Functions that would lose a tangent without a word, or write past it."""

STOPS = frozenset(named("detach stop_gradient"))
"""Functions that stop the derivative on purpose, as autograd defines them."""

ORDINARY = frozenset({"GeLUFunction"})
"""Custom autograd functions, by name, whose forward pass is made of ordinary operations and whose backward pass is the
derivative of it: Bloom's activation."""


@handler
def dispatch(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Compute a function of dual numbers; the tensors in its result that depend on a dual argument are ``Dual``.

    Under ``torch.no_grad`` the result is a constant, as in autograd. Where a value requires grad, the result's primal
    carries autograd's graph, its tangents never do. A function that would lose a tangent, or has neither a rule nor a
    forward-mode derivative, is a ModelError.
    """
    if func in METADATA:
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)
    if func in REFUSED:
        raise ModelError(
            f"{name_of(func)!r} was called on a value that depends on the trained weights and would lose its "
            f"derivative; use ordinary tensor operations, or .detach() where the derivative is meant to stop"
        )
    if func in STOPS or not torch.is_grad_enabled():
        return _stop(func, args, kwargs)
    if writes(func, args, kwargs):
        return in_place(func, args, kwargs)
    lazy = apply_lazy_rule(func, args, kwargs)
    if lazy is not NotImplemented:
        return lazy
    rule = RULES.get(func)
    if any_requires_grad(args) or any_requires_grad(kwargs.values()):
        return with_autograd(func, rule, args, kwargs)
    return rule(*args, **kwargs) if rule is not None else fallback(func, args, kwargs)


def _stop(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    custom = None if torch.is_grad_enabled() else _custom_function()
    if custom in ORDINARY:
        with torch.enable_grad():
            return dispatch(func, args, kwargs)
    if custom is not None:
        raise ModelError(
            f"the custom autograd function {custom!r} computes on plain values, so the derivative through it would be "
            "lost; replace it by ordinary operations, or register a rule for the function that calls it"
        )
    count_dropped(func)
    plain_args, plain_kwargs = tree_map(primal, (args, kwargs))
    out = func(*plain_args, **plain_kwargs)
    if args and isinstance(args[0], Dual) and isinstance(out, Tensor):
        args[0].register_alias(out)
    return out


def _custom_function() -> str | None:
    """Name the ``torch.autograd.Function`` whose forward pass is running, if one is."""
    frame, apply = sys._getframe(2), torch.autograd.Function.apply.__func__.__code__
    while frame is not None:
        if frame.f_code is apply:
            return frame.f_locals["cls"].__name__
        frame = frame.f_back
    return None
