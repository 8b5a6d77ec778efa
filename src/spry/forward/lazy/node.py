"""The steps of row-wise programs, and the leaves that they read."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from spry.core.errors import ModelError
from spry.forward.autograd import any_requires_grad, with_autograd
from spry.forward.dual import Dual
from spry.forward.lazy.overwrite import OVERWRITING, can_overwrite
from spry.forward.registry import RULES


class Node:
    """One step of a program, or a leaf whose rows exist.

    ``func`` is None for a leaf; nodes are among ``args``, constants alone in ``kwargs``; ``row_shape`` is the shape of
    one row of the result.
    """

    def __init__(
        self,
        func: Callable[..., Any] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        row_shape: tuple[int, ...],
        dtype: torch.dtype,
        is_matmul: bool = False,
    ) -> None:
        self.func, self.args, self.kwargs = func, args, kwargs
        self.row_shape, self.dtype = row_shape, dtype
        self.size, self.is_matmul = math.prod(row_shape), is_matmul
        self.rows: Tensor | None = None  # shape (N, *row_shape), dual or plain, once the node is a leaf
        inputs = [x for x in args if isinstance(x, Node)]
        # entries of one row of the widest leaf
        self.input_width = max((x.input_width for x in inputs), default=self.size)
        self.has_matmul = is_matmul or any(x.has_matmul for x in inputs)
        self.was_run = False  # whether a program with this step has run already
        self.references: list[weakref.ref[Tensor]] = []  # the lazy duals of this node
        self._batch_shape: tuple[int, ...] | None = None  # of a leaf that is an expanded view
        self._versions: list[tuple[Tensor, int]] = []
        self.requires_grad = any(
            x.requires_grad if isinstance(x, Node) else any_requires_grad([x])
            for x in (*args, *kwargs.values())
        )
        self._watch((*args, *kwargs.values()))

    def _watch(self, operands: Sequence[Any]) -> None:
        self._versions = [(x, x._version) for x in operands if type(x) is Tensor and not x.is_inference()]

    @staticmethod
    def leaf(value: Tensor, rank: int = 1, batch_shape: tuple[int, ...] | None = None) -> Node:
        """Make the leaf of a value of shape (*batch_shape, *row_shape), dual or plain; ``rank = len(row_shape)``.

        With ``batch_shape`` given the value is an expanded view, whose rows are not copied.
        """
        row_shape = tuple(value.shape[-rank:])
        node = Node(None, (), {}, row_shape, value.dtype)
        shape = value.shape if batch_shape is not None else (math.prod(value.shape[:-rank]), *row_shape)
        node.become_leaf(_mapped(value, lambda x: x.reshape(shape)))
        node._batch_shape = batch_shape
        node._watch((value,))
        return node

    def become_leaf(self, rows: Tensor) -> None:
        """Replace the step by its result, all rows of it."""
        self.func, self.args, self.kwargs, self.rows = None, (), {}, rows
        self.requires_grad = any_requires_grad([rows])
        self.input_width, self.has_matmul = self.size, False
        self._versions = []

    @property
    def should_keep(self) -> bool:
        """Whether to keep this step's rows when another program computes them.

        They are kept if they cost a matrix product, are no wider than the leaves below, and a lazy dual may read them.
        """
        return (
            self.has_matmul
            and self.size <= self.input_width
            and any(dual() is not None for dual in self.references)
        )

    @property
    def owns_memory(self) -> bool:
        """Whether what ``evaluate`` returns is in memory of its own, none of an argument's or a weight's."""
        frozen = not any(isinstance(x, Dual) for x in self.args)  # a trained bias is its own tangent's rows
        return self.rows is None and ((self.is_matmul and frozen) or self.func in OVERWRITING)

    def evaluate(self, rows: slice, values: dict[Node, Any], spent: Collection[Node] = ()) -> Any:
        """Compute some rows from the same rows of the nodes among the arguments; shape (rows, *row_shape).

        The values of the ``spent`` among these may be written over: no other step reads them.
        """
        self._check()
        if self.rows is not None:
            return self.rows_at(rows)
        assert self.func is not None
        args = [values[x] if isinstance(x, Node) else x for x in self.args]
        dual = any(isinstance(x, Dual) for x in (*args, *self.kwargs.values()))
        if dual and self.requires_grad:
            return with_autograd(self.func, RULES[self.func], args, self.kwargs)
        if dual and self._may_overwrite(spent) and can_overwrite(self.func, args):
            return OVERWRITING[self.func](*args, **self.kwargs)
        return (RULES[self.func] if dual else self.func)(*args, **self.kwargs)

    def _may_overwrite(self, spent: Collection[Node]) -> bool:
        first = self.args[0] if self.args else None
        return isinstance(first, Node) and first in spent and first.owns_memory

    def _check(self) -> None:
        if any(type(x) is not Tensor or x._version != version for x, version in self._versions):
            raise ModelError(
                "a tensor was written to in place before a lazy result of a function called on it was computed; "
                "write it out of place"
            )

    def select_rows(self, rows: Tensor, copies: Mapping[Node, Node]) -> Node:
        """Make the step for M rows alone; ``copies`` has the same rows of the nodes among the arguments."""
        if self.rows is not None:
            return Node.leaf(self.rows_at(rows), len(self.row_shape))
        args = tuple(copies[x] if isinstance(x, Node) else x for x in self.args)
        return Node(self.func, args, self.kwargs, self.row_shape, self.dtype, self.is_matmul)

    def rows_at(self, rows: slice | Tensor) -> Tensor:
        """A leaf's rows in a range or at indices of shape (M,); shape (rows, *row_shape)."""
        assert self.rows is not None
        if self._batch_shape is None:
            return _mapped(self.rows, lambda x: x[rows])
        flat = (
            torch.arange(rows.start, rows.stop, device=self.rows.device) if isinstance(rows, slice) else rows
        )
        index = torch.unravel_index(flat, self._batch_shape)
        return _mapped(self.rows, lambda x: x[index])


class LazyLeaf(Node):
    """A leaf whose rows are made when a program first reads them, or a few of them alone if only those are selected.

    ``make`` returns the rows at indices of shape (M,), or all of them for None; dual, shape (rows, *row_shape). For
    indices it may return None: then all rows are made and those selected. Writing to ``operands``, which ``make``
    reads, in place in between is an error.
    """

    def __init__(
        self,
        make: Callable[[Tensor | None], Tensor | None],
        row_shape: tuple[int, ...],
        dtype: torch.dtype,
        operands: Sequence[Any],
    ) -> None:
        super().__init__(None, (), {}, row_shape, dtype)
        self._make: Callable[[Tensor | None], Tensor | None] | None = make
        self._watch(operands)

    def ready(self) -> None:
        """Make all rows, unless they exist."""
        if self._make is None:
            return
        self._check()
        rows = self._make(None)
        assert rows is not None
        self._make = None
        self.become_leaf(rows)

    def select_rows(self, rows: Tensor, copies: Mapping[Node, Node]) -> Node:
        few = None
        if self._make is not None:
            self._check()
            few = self._make(rows)
        if few is not None:
            return Node.leaf(few, len(self.row_shape))
        self.ready()
        return super().select_rows(rows, copies)


def _mapped(x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a linear function to a tensor and its tangents."""
    if not isinstance(x, Dual):
        return function(x)
    primal, tangents = x.pair()
    return Dual(function(primal), map(function, tangents))


def materialize_leaves(roots: Sequence[Node]) -> None:
    """Make the rows of every lazy leaf below some nodes."""
    leaves = [node for node in topological_order(roots) if isinstance(node, LazyLeaf)]
    for leaf in leaves:  # a list of leaves alone: one of all nodes would keep their rows alive
        leaf.ready()


def topological_order(roots: Sequence[Node]) -> list[Node]:
    """The nodes below some roots, and the roots, each once and after its arguments."""
    done: dict[Node, None] = {}
    stack = list(roots)
    while stack:  # a recursive closure would be a reference cycle, which keeps the rows alive until collected
        node = stack[-1]
        waiting = [x for x in node.args if isinstance(x, Node) and x not in done]
        if waiting:
            stack.extend(waiting)
        else:
            done[stack.pop()] = None
    return list(done)
