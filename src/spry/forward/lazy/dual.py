"""Deferred duals: results of position-wise functions that are computed by rows, and only when something needs them.

A widening layer, its activation and the narrowing layer after it make one program; so do the parts of a hand-written
norm, a LoRA branch, rotary embeddings, or an LM head with its cross-entropy. The widened rows then exist for a few
positions at a time, with no module patched: what is not position-wise asks for the value, and the program runs.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor

from spry.forward.dual import Dual, Tangents, order
from spry.forward.lazy.node import Node, make_late
from spry.forward.lazy.program import Program, restrict


class Deferred(Dual):
    """A dual number whose value is a row-wise program not run yet.

    Its shape is ``(*lead, *content)``. With ``swapped`` and ``lead = (B, S)`` the positions come after the heads, as
    attention wants them: ``(B, *content[:-1], S, content[-1])``.

    Args:
        node: The program's last step; its content is the shape of one row.
        lead: Shape of the rows.
        directions: K.
        device: Where the rows are.
        swapped: Whether the positions come after the heads.
    """

    node: Node
    lead: tuple[int, ...]
    directions: int
    swapped: bool

    @staticmethod
    def __new__(  # pyright: ignore[reportInconsistentConstructor]
        cls: type[Deferred],
        node: Node,
        lead: tuple[int, ...],
        directions: int,
        device: torch.device,
        swapped: bool = False,
    ) -> Deferred:
        """Wrap a program."""
        content = node.content
        shape = (lead[0], *content[:-1], lead[1], content[-1]) if swapped else (*lead, *content)
        self = torch.Tensor._make_wrapper_subclass(  # pyright: ignore[reportAttributeAccessIssue]
            cls, shape, dtype=node.dtype, device=device
        )
        self.node, self.lead, self.directions, self.swapped = node, lead, directions, swapped
        node.owners.append(weakref.ref(self))
        return self

    @property
    def count(self) -> int:
        """N, how many rows there are."""
        return math.prod(self.lead)

    def pair(self) -> tuple[Tensor, Tangents]:
        """Run the program, once, and give its result.

        Returns:
            The primal and the tangents.
        """
        if self._pair is None and self._stale is None:
            run([self])
            assert isinstance(self.node.rows, Dual)
            primal, tangents = self.node.rows.pair()
            self._pair = (self.arranged(primal), tuple(map(self.arranged, tangents)))
        return super().pair()

    def tracked(self) -> bool:
        """Tell whether autograd records a graph for the value, or will.

        Returns:
            True if the program has a step that requires grad.
        """
        return self.node.tracked if pending(self) else super().tracked()

    def rebind(self, new: Dual, writer: str) -> None:
        """Take over another dual's value and derivatives; the program ends here.

        Args:
            new: A dual of this one's shape.
            writer: The name of the in-place operation.
        """
        super().rebind(new, writer)
        self.node, self.lead, self.swapped = Node.leaf(Dual(*super().pair())), tuple(self.shape[:-1]), False

    def arranged(self, rows: Tensor, lead: tuple[int, ...] | None = None) -> Tensor:
        """Arrange rows the way this dual shows them.

        Args:
            rows: Shape (N, *content).
            lead: Shape of the rows, if not all of them.

        Returns:
            A view of the rows.
        """
        x = rows.view(*(self.lead if lead is None else lead), *self.node.content)
        return x.movedim(1, -2) if self.swapped else x

    def like(self, node: Node) -> Deferred:
        """Make another deferred dual of the same rows in the same arrangement.

        Args:
            node: Its program.

        Returns:
            The new dual.
        """
        return Deferred(node, self.lead, self.directions, self.device, self.swapped)

    def picked(self, index: Tensor) -> Deferred:
        """Keep some rows: the program of these rows alone.

        Args:
            index: Which rows, counted in the order of memory; its shape is the new arrangement.

        Returns:
            The picked rows, deferred.
        """
        return Deferred(
            restrict(self.node, index.reshape(-1)), tuple(index.shape), self.directions, self.device
        )


def pending(value: Any) -> TypeGuard[Deferred]:
    """Tell whether a value is a program that has not run.

    Args:
        value: Anything.

    Returns:
        True for a deferred dual whose rows do not exist yet.
    """
    return isinstance(value, Deferred) and value.node.rows is None and value._stale is None


def run(duals: Sequence[Deferred]) -> None:
    """Run the programs of some duals together, so that steps they share run once; afterwards none is pending.

    Args:
        duals: Deferred duals of the same rows.
    """
    make_late([x.node for x in duals])
    _settle([x.node for x in duals if x.node.rows is None], duals[0])


def window(duals: Sequence[Deferred], rows: range) -> list[Dual]:
    """Compute some rows of some duals together, and keep their programs for others.

    Args:
        duals: Deferred duals of the same rows.
        rows: Which, in the order of memory.

    Returns:
        One dual each, shape (rows, *content).
    """
    roots = [x.node for x in duals]
    program = Program(roots, duals[0].directions)
    if others := [node for node in program.results if node not in roots]:  # once for all windows
        _settle(others, duals[0])
        program = Program(roots, duals[0].directions)
    values = dict(zip(program.results, _computed(program, rows, duals[0]), strict=True))
    return [values[node] for node in roots]


def _settle(nodes: Sequence[Node], like: Deferred) -> None:
    if nodes:
        program = Program(nodes, like.directions)
        for node, rows in zip(program.results, _computed(program, range(like.count), like), strict=True):
            node.settle(rows)


def _computed(program: Program, rows: range, like: Deferred) -> list[Dual]:
    wholes = [] if len(rows) else [_empty(node, 0, like) for node in program.results]
    for part, values in program.chunks(rows, like.device):
        if part.stop - part.start == len(rows):
            return values
        wholes = wholes or [_empty(node, len(rows), like) for node in program.results]
        for whole, value in zip(wholes, values, strict=True):
            at = slice(part.start - rows.start, part.stop - rows.start)
            whole.primal[at] = value.primal
            for tangent, piece in zip(whole.tangents, value.tangents, strict=True):
                tangent[at] = piece
    return wholes


def _empty(node: Node, count: int, like: Deferred) -> Dual:
    sizes = (count, *node.content)
    primal, *tangents = (
        torch.empty(sizes, dtype=node.dtype, device=like.device) for _ in range(1 + like.directions)
    )
    return Dual(primal, tangents)


def extend(
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    by_row: Sequence[int],
    last: int,
    dtype: torch.dtype,
    costly: bool = False,
) -> Any:
    """Add a step to the programs of its arguments.

    Args:
        func: A row-wise function with a rule.
        args: Its arguments.
        kwargs: Its keyword arguments, constants all.
        by_row: Positions of the arguments that are taken row by row; the others are constants.
        last: Size of the result's last dimension.
        dtype: Type of the result.
        costly: Whether the step is a matrix product.

    Returns:
        The deferred result, or NotImplemented if the rows of the arguments do not match.
    """
    duals = [args[i] for i in by_row if isinstance(args[i], Dual)]
    shape = next((x for x in duals if pending(x)), None)
    shape = _as_rows(max(duals, key=Tensor.numel)) if shape is None else shape
    nodes = [_operand(x, shape) if i in by_row else x for i, x in enumerate(args)]
    if any(node is NotImplemented for node in nodes):
        return NotImplemented
    contents = [nodes[i].content[:-1] for i in by_row if isinstance(nodes[i], Node)]
    contents += [nodes[i].shape[:-1] for i in by_row if isinstance(nodes[i], Tensor)]
    content = (*torch.broadcast_shapes(*contents), last)
    return shape.like(Node(func, tuple(nodes), kwargs, content, dtype, costly))


def _as_rows(x: Dual) -> Deferred:
    """A dual whose last dimension is the content of a row."""
    return Deferred(Node.leaf(x), tuple(x.shape[:-1]), order(x), x.device)


def _operand(value: Any, shape: Deferred) -> Any:
    """The node of an argument taken by rows, a constant as each row sees it, or NotImplemented."""
    if not isinstance(value, Tensor) or value.dim() < 2:
        return value
    if pending(value):
        own, others = ((x.lead, x.swapped, len(x.node.content)) for x in (value, shape))
        if own != others:
            return NotImplemented
        if not (value.node.seen and value.node.costly):
            return value.node
        value.pair()  # from the second use on its rows are kept
    return _existing(value, shape)


def _existing(value: Tensor, shape: Deferred) -> Any:
    """The same for a tensor whose rows exist."""
    rank = len(shape.node.content)
    missing = len(shape.lead) + rank - value.dim()
    if missing < 0:
        return NotImplemented
    value = value[(None,) * missing] if missing else value
    value = value.movedim(-2, 1) if shape.swapped else value
    lead, content = tuple(value.shape[:-rank]), tuple(value.shape[-rank:])
    if lead == shape.lead:
        return Node.leaf(value, rank)
    if math.prod(lead) == 1:
        return value.reshape(content)
    if any(own not in {1, full} for own, full in zip(lead, shape.lead, strict=True)):
        return NotImplemented
    return Node.leaf(value.expand(*shape.lead, *content), rank, shape.lead)
