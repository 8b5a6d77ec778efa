"""Row-wise programs: steps that compute each row of a matrix from the same rows of others, run a few rows at a time."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from spry.core.errors import ModelError
from spry.forward.dual import Dual
from spry.forward.registry import RULES
from spry.forward.sizes import WORKSPACE, size


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
        if any(x._version != version for x, version in self._versions):
            raise ModelError(
                "a tensor was written to in place after a position-wise function had been called on it; such functions "
                "are computed by rows, when their result is needed: write it out of place"
            )
        if self.rows is not None:
            return self.taken(rows)
        assert self.func is not None
        args = [values[x] if isinstance(x, Node) else x for x in self.args]
        dual = any(isinstance(x, Dual) for x in (*args, *self.kwargs.values()))
        return (RULES[self.func] if dual else self.func)(*args, **self.kwargs)

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


def _mapped(x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a linear function to a tensor and its tangents."""
    if not isinstance(x, Dual):
        return function(x)
    primal, tangents = x.pair()
    return Dual(function(primal), map(function, tangents))


class Program:
    """The steps that some nodes need, in order, each value dropped after its last use.

    Args:
        roots: The nodes whose rows are wanted. Nodes below them that are ``wanted`` become results as well.
        directions: K, how many tangents each value carries.
    """

    def __init__(self, roots: Sequence[Node], directions: int) -> None:
        self.steps = sorted_steps(roots)
        self.results = [node for node in self.steps if node in roots or (node.rows is None and node.wanted)]
        last = {x: i for i, node in enumerate(self.steps) for x in node.args if isinstance(x, Node)}
        self._dead: list[list[Node]] = [[] for _ in self.steps]
        for node, i in last.items():
            if node not in self.results:
                self._dead[i].append(node)
        self._row_bytes = self._widest() * (1 + directions)

    def _widest(self) -> int:
        """Bytes of all values of one row that live at the same time, one temporary included."""
        live = widest = 0
        for i, node in enumerate(self.steps):
            own = node.size * node.dtype.itemsize if node.rows is None else 0
            live += own
            widest = max(widest, live + own)
            live -= sum(x.size * x.dtype.itemsize for x in self._dead[i] if x.rows is None)
        return widest

    def chunks(self, rows: range, device: torch.device) -> Iterator[tuple[slice, list[Any]]]:
        """Run the program.

        Args:
            rows: Which rows to compute.
            device: Where they are.

        Yields:
            A range of rows and the values of ``results`` there, dual or plain.
        """
        for node in self.steps:
            node.seen = True
        budget = size(WORKSPACE, device) // max(1, self._row_bytes)
        parts = -(-len(rows) // max(32, budget))
        step = -(-len(rows) // max(1, parts))  # chunks of one size, rather than full ones and a rest
        for start in range(rows.start, rows.stop, max(1, step)):
            part = slice(start, min(start + step, rows.stop))
            yield part, self._run(part)

    def _run(self, rows: slice) -> list[Any]:
        values: dict[Node, Any] = {}
        for node, dead in zip(self.steps, self._dead, strict=True):
            values[node] = node.chunk(rows, values)
            for used in dead:
                del values[used]
        return [values[node] for node in self.results]


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


def restrict(root: Node, rows: Tensor) -> Node:
    """Make the program that computes some rows only.

    Args:
        root: A node.
        rows: Which rows of it, in which order, shape (M,).

    Returns:
        A node of M rows over the same rows of the leaves.
    """
    copies: dict[Node, Node] = {}
    for node in sorted_steps([root]):
        if node.rows is not None:
            copies[node] = Node.leaf(node.taken(rows), len(node.content))
        else:
            args = tuple(copies[x] if isinstance(x, Node) else x for x in node.args)
            copies[node] = Node(node.func, args, node.kwargs, node.content, node.dtype, node.costly)
    return copies[root]
