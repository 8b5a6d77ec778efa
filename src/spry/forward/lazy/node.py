"""The steps of row-wise programs, and the leaves that they read."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from spry.core.errors import ModelError
from spry.forward.autograd import any_requires_grad, with_autograd
from spry.forward.dual import Dual
from spry.forward.registry import RULES


class Node:
    """One step of a program, or a leaf whose rows exist.

    Args:
        func: The PyTorch function of the step; None for a leaf.
        args: Its arguments, nodes among them.
        kwargs: Its keyword arguments, constants all.
        row_shape: Shape of one row of the result.
        dtype: Type of the result.
        is_matmul: Whether the step itself is a matrix product rather than elementwise.
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
        self.size = math.prod(row_shape)
        self.rows: Tensor | None = None  # shape (N, *row_shape), dual or plain, once the node is a leaf
        inputs = [x for x in args if isinstance(x, Node)]
        self.input_width = max(
            (x.input_width for x in inputs), default=self.size
        )  # entries of the widest leaf's rows
        self.has_matmul = is_matmul or any(x.has_matmul for x in inputs)
        self.was_run = False  # whether a program with this step has run already
        self.references: list[weakref.ref[Tensor]] = []  # the deferred duals that stand for this node
        self._batch_shape: tuple[int, ...] | None = (
            None  # shape of the rows, of a leaf that is an expanded view
        )
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
        """Make a leaf.

        Args:
            value: Shape (*batch_shape, *row_shape), dual or plain.
            rank: How many dimensions the row_shape has.
            batch_shape: Shape of the rows if ``value`` is an expanded view, which is then not copied to lie in rows.

        Returns:
            The node of its rows.
        """
        row_shape = tuple(value.shape[-rank:])
        node = Node(None, (), {}, row_shape, value.dtype)
        shape = value.shape if batch_shape is not None else (math.prod(value.shape[:-rank]), *row_shape)
        node.become_leaf(_mapped(value, lambda x: x.reshape(shape)))
        node._batch_shape = batch_shape
        node._watch((value,))
        return node

    def become_leaf(self, rows: Tensor) -> None:
        """Become a leaf.

        Args:
            rows: The result of the step, all rows of it.
        """
        self.func, self.args, self.kwargs, self.rows = None, (), {}, rows
        self.requires_grad = any_requires_grad([rows])
        self.input_width, self.has_matmul = self.size, False
        self._versions = []

    @property
    def should_keep(self) -> bool:
        """Whether this step's rows should be kept when they pass by: is_matmul, no wider than its sources, in use."""
        return (
            self.has_matmul
            and self.size <= self.input_width
            and any(owner() is not None for owner in self.references)
        )

    def evaluate(self, rows: slice, values: dict[Node, Any]) -> Any:
        """Compute some rows.

        Args:
            rows: Which.
            values: The same rows of the nodes among the arguments.

        Returns:
            Shape (rows, *row_shape), dual or plain.

        Raises:
            ModelError: If a plain tensor was written to since the step was made.
        """
        self._check()
        if self.rows is not None:
            return self.rows_at(rows)
        assert self.func is not None
        args = [values[x] if isinstance(x, Node) else x for x in self.args]
        dual = any(isinstance(x, Dual) for x in (*args, *self.kwargs.values()))
        if dual and self.requires_grad:
            return with_autograd(self.func, RULES[self.func], args, self.kwargs)
        return (RULES[self.func] if dual else self.func)(*args, **self.kwargs)

    def _check(self) -> None:
        if any(x._version != version for x, version in self._versions):
            raise ModelError(
                "a tensor was written to in place after a function had been called on it whose result is computed when "
                "it is needed; write it out of place"
            )

    def select_rows(self, rows: Tensor, copies: Mapping[Node, Node]) -> Node:
        """Make the step for some rows alone.

        Args:
            rows: Indices, shape (M,).
            copies: The steps among the arguments, for these rows.

        Returns:
            A node of M rows.
        """
        if self.rows is not None:
            return Node.leaf(self.rows_at(rows), len(self.row_shape))
        args = tuple(copies[x] if isinstance(x, Node) else x for x in self.args)
        return Node(self.func, args, self.kwargs, self.row_shape, self.dtype, self.has_matmul)

    def rows_at(self, rows: slice | Tensor) -> Tensor:
        """Take some rows of a leaf.

        Args:
            rows: A range, or indices of shape (M,).

        Returns:
            Shape (rows, *row_shape), dual or plain.
        """
        assert self.rows is not None
        if self._batch_shape is None:
            return _mapped(self.rows, lambda x: x[rows])
        flat = (
            torch.arange(rows.start, rows.stop, device=self.rows.device) if isinstance(rows, slice) else rows
        )
        index = torch.unravel_index(flat, self._batch_shape)
        return _mapped(self.rows, lambda x: x[index])


class LazyLeaf(Node):
    """A leaf whose rows are made when a program first reads them, or a few of them alone if only these are picked.

    Args:
        make: Gives the rows of some indices of shape (M,), or all of them for None; dual, shape (rows, *row_shape). For
            indices it may give None: then all rows are made and those taken.
        row_shape: Shape of one row.
        dtype: Type of the rows.
        operands: What ``make`` reads; writing to these in place in between is an error.
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
        """Make all rows, unless that has been done."""
        if self._make is None:
            return
        self._check()
        rows = self._make(None)
        assert rows is not None
        self._make = None
        self.become_leaf(rows)

    def select_rows(self, rows: Tensor, copies: Mapping[Node, Node]) -> Node:
        """Make some rows alone, if that can be.

        Args:
            rows: Indices, shape (M,).
            copies: Unused: a leaf has no steps among its arguments.

        Returns:
            A node of M rows.
        """
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
    """Make the rows of all leaves below some roots that have none yet.

    Args:
        roots: Nodes.
    """
    late = [
        node for node in topological_order(roots) if isinstance(node, LazyLeaf)
    ]  # no list keeps other nodes' rows alive
    for node in late:
        node.ready()


def topological_order(roots: Sequence[Node]) -> list[Node]:
    """List the nodes below some roots, each after its arguments.

    Args:
        roots: Nodes.

    Returns:
        The nodes, each once; the roots among them.
    """
    done: dict[Node, None] = {}
    stack = list(roots)
    while (
        stack
    ):  # no recursive closure: it would be a reference cycle, and keep the rows alive until collected
        node = stack[-1]
        waiting = [x for x in node.args if isinstance(x, Node) and x not in done]
        if waiting:
            stack.extend(waiting)
        else:
            done[stack.pop()] = None
    return list(done)
