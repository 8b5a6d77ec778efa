"""Dual numbers of tensors: a primal and K tangents that walk through an unmodified model together."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

Tangents = tuple[Tensor, ...]
"""K tensors of the primal's shape, dtype and device: the derivative along each direction."""


class Dual(Tensor):
    """A tensor that carries its derivatives along K directions: ``x + e_1 t_1 + ... + e_K t_K``, ``e_i e_j = 0``.

    PyTorch functions called on it go to the rule of that function (``spry.forward.registry``), else to
    ``torch.func.jvp`` of that one function. It owns no storage itself: it refers to plain tensors.

    Args:
        primal: The value.
        tangents: K tensors of the primal's shape and dtype.
    """

    _pair: tuple[Tensor, Tangents] | None
    _kin: (
        list[weakref.ref[Tensor]] | None
    )  # all tensors that view one memory, or None while this is the only one

    @staticmethod
    def __new__(cls, primal: Tensor, tangents: Iterable[Tensor]) -> Dual:
        pair = (primal, tuple(tangents))
        assert not isinstance(primal, Dual)
        assert all(t.shape == primal.shape and t.dtype == primal.dtype for t in pair[1]), (
            "tangents unlike their primal"
        )
        self = torch.Tensor._make_wrapper_subclass(  # pyright: ignore[reportAttributeAccessIssue]
            cls, primal.shape, strides=primal.stride(), dtype=primal.dtype, device=primal.device
        )
        self._pair = pair
        self._kin = None
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
        """Give the value and its derivatives.

        Returns:
            The primal and the tangents.
        """
        assert self._pair is not None
        return self._pair

    def rebind(self, new: Dual) -> Dual:
        """Take over another dual's value and derivatives: what an in-place operation does to this one.

        Args:
            new: A dual of this one's shape.

        Returns:
            This dual.
        """
        primal, tangents = new.pair()
        self._pair = (primal.to(self.dtype), tuple(t.to(self.dtype) for t in tangents))
        return self

    def relate(self, view: Tensor) -> None:
        """Remember that another tensor may share this one's memory, so that writing in place would miss it.

        Args:
            view: The result of a view of this dual.
        """
        if view is self:
            return
        self._kin = [weakref.ref(self)] if self._kin is None else self._kin
        self._kin.append(weakref.ref(view))
        if isinstance(view, Dual):
            view._kin = self._kin

    def shared(self) -> bool:
        """Tell whether a living tensor may share this one's memory.

        Returns:
            True if a view of this dual, or what it is a view of, is still in use.
        """
        return any(other() is not None and other() is not self for other in self._kin or ())

    def tracked(self) -> bool:
        """Tell whether autograd records a graph for the value.

        Returns:
            True if the primal requires grad.
        """
        return self._pair is not None and self._pair[0].requires_grad

    def __repr__(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        return f"Dual({self.primal!r}, tangents={len(self.tangents)})"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Hand the call to the engine."""
        from spry.forward.dispatch import dispatch

        return dispatch(func, args, kwargs or {})

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Catch what reaches PyTorch's core past the functions above, so that no tangent is lost in silence."""
        from spry.forward.dispatch import dispatch

        return dispatch(func, args, kwargs or {})


def primal(value: Any) -> Any:
    """Strip the tangents from a value, if it has any.

    Args:
        value: Anything.

    Returns:
        The primal of a ``Dual``, everything else unchanged.
    """
    return value.primal if isinstance(value, Dual) else value


def order(*values: Any) -> int:
    """Count the directions that travel together.

    Args:
        *values: At least one of them a ``Dual``.

    Returns:
        K, the same for all duals of one pass.
    """
    counts = {len(value.tangents) for value in values if isinstance(value, Dual)}
    assert len(counts) == 1, f"duals of different passes meet: {sorted(counts)} tangents"
    return counts.pop()
