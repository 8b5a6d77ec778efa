"""Dual numbers of tensors: a primal and K tangents that walk through an unmodified model together."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from spry.core.errors import ModelError

Tangents = tuple[Tensor, ...]
"""K tensors of the primal's shape, dtype and device: the derivative along each direction."""

View = Callable[[Tensor], Tensor]
"""Takes a tensor's view, as ``x.T`` or ``x[0]`` do: the same memory, of another shape."""

Handler = Callable[[Callable[..., Any], Any, Any], Any]
"""Computes a PyTorch function of duals from the function, its arguments and its keyword arguments."""


class Dual(Tensor):
    """A tensor that carries its derivatives along K directions: ``x + e_1 t_1 + ... + e_K t_K``, ``e_i e_j = 0``.

    PyTorch functions called on it go to the rule of that function (``spry.forward.registry``), else to
    ``torch.func.jvp`` of that one function. It owns no storage itself: it refers to plain tensors.

    Args:
        primal: The value.
        tangents: K tensors of the primal's shape and dtype.
    """

    _handler: ClassVar[Handler]  # set by ``spry.forward.dispatch``, which imports this module
    _pair: tuple[Tensor, Tangents] | None = None
    _invalidated_by: str | None = None  # the function that wrote into memory this view shared
    _aliases: list[weakref.ref[Tensor]] | None = None  # all tensors that share this one's memory
    _source: tuple[Dual, View] | None = None  # the dual that this one is a view of, and which

    @staticmethod
    def __new__(cls: type[Dual], primal: Tensor, tangents: Iterable[Tensor]) -> Dual:
        pair = (primal, tuple(tangents))
        assert not isinstance(primal, Dual)
        assert all(t.shape == primal.shape and t.dtype == primal.dtype for t in pair[1]), (
            "tangents unlike their primal"
        )
        self = torch.Tensor._make_wrapper_subclass(  # pyright: ignore[reportAttributeAccessIssue]
            cls, primal.shape, strides=primal.stride(), dtype=primal.dtype, device=primal.device
        )
        self._pair = pair
        return self

    @property
    def primal(self) -> Tensor:
        """The value, a plain tensor."""
        return self.pair()[0]

    @property
    def tangents(self) -> Tangents:
        """The K derivatives, plain tensors of the primal's shape."""
        return self.pair()[1]

    def pair(self) -> tuple[Tensor, Tangents]:
        """The value and its K derivatives, plain tensors of the same shape.

        A view whose memory was written to in place since is taken anew.

        Raises:
            ModelError: If that is not possible.
        """
        if self._invalidated_by is not None:
            if self._source is None:
                raise ModelError(
                    f"{self._invalidated_by!r} wrote in place into a tensor, and a view of it made before is used "
                    f"after; write it out of place"
                )
            whole, view = self._source
            primal, tangents = whole.pair()
            self._pair, self._invalidated_by = (view(primal), tuple(map(view, tangents))), None
        assert self._pair is not None
        return self._pair

    def assign(self, new: Dual, writer: str) -> None:
        """Take over another dual's value and derivatives: what an in-place operation does to this one.

        Views of it, and the dual that it is a view of, change with it. Lazy views do not; using them is an error.

        Args:
            new: A dual of this one's shape.
            writer: The name of the operation.

        Raises:
            ModelError: If a plain tensor shares the memory: it could not tell that it is out of date.
        """
        primal, *tangents = (x.to(self.dtype) for x in (new.primal, *new.tangents))
        if self._source is not None:
            whole, view = self._source
            whole.assign(_overwritten(whole, view, primal, tangents), writer)
            return
        aliases = [view for ref in self._aliases or () if (view := ref()) is not None and view is not self]
        if not all(isinstance(view, Dual) for view in aliases):
            raise ModelError(
                f"{writer!r} writes in place into a tensor whose detached value is in use; detach a clone"
            )
        for alias in aliases:
            vars(alias)["_invalidated_by"] = writer
        self._pair = (primal, tuple(tangents))
        if self._aliases is not None:
            self._aliases[:] = map(weakref.ref, (self, *aliases))

    def register_alias(self, alias: Tensor, view: View | None = None) -> None:
        """Remember a tensor that may share this one's memory, and, if it is a view that can be taken anew, which."""
        if alias is self:
            return
        self._aliases = [weakref.ref(self)] if self._aliases is None else self._aliases
        self._aliases.append(weakref.ref(alias))
        if isinstance(alias, Dual):
            alias._aliases = self._aliases
            alias._source = None if view is None else (self, view)

    def primal_requires_grad(self) -> bool:
        """Whether autograd records a graph for the value."""
        return self._pair is not None and self._pair[0].requires_grad

    def __repr__(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return f"Dual({self.primal!r}, tangents={len(self.tangents)})"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return cls._handler(func, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Refuse what reaches PyTorch's core past its functions, so that no tangent is lost in silence."""
        raise ModelError(
            f"the operator {str(func)!r} was called from C++ or compiled code on a value that depends on the trained "
            f"weights, where its derivative cannot be followed; switch to an implementation made of PyTorch functions"
        )


def handler(function: Handler) -> Handler:
    """Let the decorated function compute every PyTorch function that is called on a ``Dual``."""
    Dual._handler = staticmethod(function)  # pyright: ignore[reportAttributeAccessIssue]
    return function


def _overwritten(whole: Dual, view: View, primal: Tensor, tangents: Iterable[Tensor]) -> Dual:
    """The whole with another value and other derivatives where a view of it looks."""
    value = whole.primal

    def written(old: Tensor, new: Tensor) -> Tensor:
        copy = torch.empty_like(value).copy_(old)
        part = view(copy)
        if part is not copy and part._base is not copy:
            raise RuntimeError("it is a copy")
        part.copy_(new)
        return copy

    try:
        return Dual(written(value, primal), map(written, whole.tangents, tangents))
    except RuntimeError as error:
        raise ModelError(f"a view of a tensor cannot be written to in place: {error}") from error


def window(
    x: Tensor, strides: Sequence[int], size: Sequence[int], stride: Sequence[int], offset: int | torch.SymInt
) -> Tensor:
    """``x.as_strided(size, stride, offset)`` from x's own start, of a copy with the given strides if x has others."""
    if x.stride() != tuple(strides):
        x = torch.empty_strided(x.shape, strides, dtype=x.dtype, device=x.device).copy_(x)
    return x.as_strided(size, stride, x.storage_offset() + offset)


def has_derivative(value: Any) -> bool:
    """Whether a value may move with the weights: a tensor of real or complex numbers, not of integers or booleans."""
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def primal(value: Any) -> Any:
    """Strip the tangents from a value, if it has any."""
    return value.primal if isinstance(value, Dual) else value


def plain(value: Any) -> Any:
    """Strip the tangents from a value, or from the items of a tuple or list."""
    return type(value)(map(primal, value)) if type(value) in {tuple, list} else primal(value)


def num_tangents(*values: Any) -> int:
    """K, the number of directions that travel together: the same for all duals of one pass."""
    counts = {len(value.tangents) for value in values if isinstance(value, Dual)}
    assert len(counts) == 1, f"duals of different passes meet: {sorted(counts)} tangents"
    return counts.pop()
