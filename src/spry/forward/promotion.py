"""Plain tensors that a model writes moving values into: each becomes a dual number, for all who refer to it.

``out[:, i] = dual`` or ``x += dual`` leaves a model no chance to take a new tensor. So the tensor object itself becomes
a ``Dual`` (``torch.utils.swap_tensors``), together with the tensor that it is a view of. A third tensor that shares the
memory could not know; then the write is refused.
"""

from __future__ import annotations

import weakref
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.utils import swap_tensors

from spry.core.errors import ModelError
from spry.forward.dual import Dual, has_derivative, window

_promoted: ContextVar[list[weakref.ref[Dual]] | None] = ContextVar("spry_forward_promoted", default=None)

_FAILURES = {
    "Creating a Parameter from an instance of type Dual": (
        "'nn.Parameter' was made of a value that depends on the trained weights, and a parameter starts a derivative "
        "of its own; keep the value as it is, or pass its .detach() where the derivative is meant to stop"
    ),
    "failed in the TorchScript interpreter": (
        "a function of torch.jit.script or torch.jit.trace was called on a value that depends on the trained weights, "
        "where its derivative cannot be followed; call the Python function that it was made of"
    ),
}
"""Marks of PyTorch's own errors about duals, and what to say instead."""


@contextmanager
def forward_pass() -> Generator[None]:
    """Let plain tensors become duals; those that outlive the pass, as buffers do, are plain again after it.

    Where PyTorch itself fails on a dual, a ModelError says what to do instead.
    """
    promoted: list[weakref.ref[Dual]] = []
    token = _promoted.set(promoted)
    try:
        yield
    except RuntimeError as error:
        advice = next((text for mark, text in _FAILURES.items() if mark in str(error)), None)
        if advice is None:
            raise
        raise ModelError(advice) from error
    finally:
        _promoted.reset(token)
        while promoted:
            _demote(promoted.pop()())


def promote(target: Any, num_tangents: int, writer: str) -> Dual:
    """Turn a plain tensor that an operation writes to into a dual of the same value with derivatives zero.

    It stays the same object. A weight, integers, or memory shared with tensors that are in use are a ModelError.
    """
    promoted = _promoted.get()
    if promoted is None or type(target) is not Tensor or not has_derivative(target):
        raise ModelError(_refusal(writer, "that cannot have derivatives"))
    base = target._base
    if base is not None and (type(base) is not Tensor or base.dtype != target.dtype):
        raise ModelError(_refusal(writer, "that is a part of a weight or of complex numbers"))
    if _sharers(target) > _sharers(torch.empty(1)) + (base is not None):
        raise ModelError(_refusal(writer, "whose memory other tensors share"))
    try:
        return _become_dual(target, base, num_tangents, promoted)
    except RuntimeError as error:
        raise ModelError(_refusal(writer, "that autograd or others hold on to")) from error


def _become_dual(
    target: Tensor, base: Tensor | None, num_tangents: int, promoted: list[weakref.ref[Dual]]
) -> Dual:
    def become(x: Tensor, value: Tensor) -> Dual:
        swap_tensors(x, Dual(value, [torch.zeros_like(value) for _ in range(num_tangents)]))
        assert isinstance(x, Dual)
        promoted.append(weakref.ref(x))
        return x

    if base is None:
        return become(target, target.clone())
    whole, strides = base.clone(), base.stride()
    place = target.size(), target.stride(), target.storage_offset() - base.storage_offset()
    dual = become(target, window(whole, strides, *place))
    become(base, whole).register_alias(dual, lambda t: window(t, strides, *place))
    return dual


def _demote(dual: Dual | None) -> None:
    if dual is None:
        return
    if dual._aliases is not None:
        dual._aliases.clear()  # weak references forbid the swap
    swap_tensors(dual, dual.primal.detach())


def _sharers(x: Tensor) -> int:
    storage = x.untyped_storage()
    return torch._C._storage_Use_Count(storage._cdata)  # pyright: ignore[reportAttributeAccessIssue]


def _refusal(writer: str, why: str) -> str:
    return (
        f"{writer!r} writes a value that depends on the trained weights into a tensor {why}; "
        f"build the result out of place (torch.where, torch.cat, torch.index_add, ...)"
    )
