"""The steps of row-wise programs, and the leaves that they read."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from spry.core.errors import ModelError
from spry.forward.autograd import tracked, with_graph
from spry.forward.dual import Dual
from spry.forward.registry import RULES


class Node:
    """One step of a program, or a leaf whose rows exist.

    Args:
        func: The PyTorch function of the step; None for a leaf.
        args: Its arguments, nodes among them.
        kwargs: Its keyword arguments, constants all.
        content: Shape of one row of the result.
        dtype: Type of the result.
        costly: Whether the step itself is a matrix product rather than elementwise.
    """

    def __init__(
        self,
        func: Callable[..., Any] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        content: tuple[int, ...],
        dtype: torch.dtype,
        costly: bool = False,
    ) -> None:
        self.func, self.args, self.kwargs = func, args, kwargs
        self.content, self.dtype = content, dtype
        self.size = math.prod(content)
        self.rows: Tensor | None = None  # shape (N, *content), dual or plain, once the node is a leaf
        inputs = [x for x in args if isinstance(x, Node)]
        self.source = max((x.source for x in inputs), default=self.size)  # entries of the widest leaf's rows
        self.costly = costly or any(x.costly for x in inputs)
        self.seen = False  # whether a program with this step has run already
        self.owners: list[weakref.ref[Tensor]] = []  # the deferred duals that stand for this node
        self._lead: tuple[int, ...] | None = None  # shape of the rows, of a leaf that is an expanded view
        self._versions: list[tuple[Tensor, int]] = []
        self.tracked = any(
            x.tracked if isinstance(x, Node) else tracked([x]) for x in (*args, *kwargs.values())
        )
        self._watch((*args, *kwargs.values()))

    def _watch(self, operands: Sequence[Any]) -> None:
        self._versions = [(x, x._version) for x in operands if type(x) is Tensor and not x.is_inference()]

    @staticmethod
    def leaf(value: Tensor, rank: int = 1, lead: tuple[int, ...] | None = None) -> Node:
        """Make a leaf.

        Args:
            value: Shape (*lead, *content), dual or plain.
            rank: How many dimensions the content has.
            lead: Shape of the rows if ``value`` is an expanded view, which is then not copied to lie in rows.

        Returns:
            The node of its rows.
        """
        content = tuple(value.shape[-rank:])
        node = Node(None, (), {}, content, value.dtype)
        shape = value.shape if lead is not None else (math.prod(value.shape[:-rank]), *content)
        node.settle(_mapped(value, lambda x: x.reshape(shape)))
        node._lead = lead
        node._watch((value,))
        return node

    def settle(self, rows: Tensor) -> None:
        """Become a leaf.

        Args:
            rows: The result of the step, all rows of it.
        """
        self.func, self.args, self.kwargs, self.rows = None, (), {}, rows
        self.tracked = tracked([rows])
        self.source, self.costly = self.size, False
        self._versions = []

    @property
    def wanted(self) -> bool:
        """Whether this step's rows should be kept when they pass by: costly, no wider than its sources, in use."""
        return self.costly and self.size <= self.source and any(owner() is not None for owner in self.owners)

    def chunk(self, rows: slice, values: dict[Node, Any]) -> Any:
        """Compute some rows.

        Args:
            rows: Which.
            values: The same rows of the nodes among the arguments.

        Returns:
            Shape (rows, *content), dual or plain.

        Raises:
            ModelError: If a plain tensor was written to since the step was made.
        """
        self._check()
        if self.rows is not None:
            return self.taken(rows)
        assert self.func is not None
        args = [values[x] if isinstance(x, Node) else x for x in self.args]
        dual = any(isinstance(x, Dual) for x in (*args, *self.kwargs.values()))
        if dual and self.tracked:
            return with_graph(self.func, RULES[self.func], args, self.kwargs)
        return (RULES[self.func] if dual else self.func)(*args, **self.kwargs)

    def _check(self) -> None:
        if any(x._version != version for x, version in self._versions):
            raise ModelError(
                "a tensor was written to in place after a function had been called on it whose result is computed when "
                "it is needed; write it out of place"
            )

    def picked(self, rows: Tensor, copies: Mapping[Node, Node]) -> Node:
        """Make the step for some rows alone.

        Args:
            rows: Indices, shape (M,).
            copies: The steps among the arguments, for these rows.

        Returns:
            A node of M rows.
        """
        if self.rows is not None:
            return Node.leaf(self.taken(rows), len(self.content))
        args = tuple(copies[x] if isinstance(x, Node) else x for x in self.args)
        return Node(self.func, args, self.kwargs, self.content, self.dtype, self.costly)

    def taken(self, rows: slice | Tensor) -> Tensor:
        """Take some rows of a leaf.

        Args:
            rows: A range, or indices of shape (M,).

        Returns:
            Shape (rows, *content), dual or plain.
        """
        assert self.rows is not None
        if self._lead is None:
            return _mapped(self.rows, lambda x: x[rows])
        flat = (
            torch.arange(rows.start, rows.stop, device=self.rows.device) if isinstance(rows, slice) else rows
        )
        index = torch.unravel_index(flat, self._lead)
        return _mapped(self.rows, lambda x: x[index])


class Late(Node):
    """A leaf whose rows are made when a program first reads them, or a few of them alone if only these are picked.

    Args:
        make: Gives the rows of some indices of shape (M,), or all of them for None; dual, shape (rows, *content). For
            indices it may give None: then all rows are made and those taken.
        content: Shape of one row.
        dtype: Type of the rows.
        operands: What ``make`` reads; writing to these in place in between is an error.
    """

    def __init__(
        self,
        make: Callable[[Tensor | None], Tensor | None],
        content: tuple[int, ...],
        dtype: torch.dtype,
        operands: Sequence[Any],
    ) -> None:
        super().__init__(None, (), {}, content, dtype)
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
        self.settle(rows)

    def picked(self, rows: Tensor, copies: Mapping[Node, Node]) -> Node:
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
            return Node.leaf(few, len(self.content))
        self.ready()
        return super().picked(rows, copies)


def _mapped(x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a linear function to a tensor and its tangents."""
    if not isinstance(x, Dual):
        return function(x)
    primal, tangents = x.pair()
    return Dual(function(primal), map(function, tangents))


def make_late(roots: Sequence[Node]) -> None:
    """Make the rows of all leaves below some roots that have none yet.

    Args:
        roots: Nodes.
    """
    late = [
        node for node in sorted_steps(roots) if isinstance(node, Late)
    ]  # no list keeps other nodes' rows alive
    for node in late:
        node.ready()


def sorted_steps(roots: Sequence[Node]) -> list[Node]:
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
