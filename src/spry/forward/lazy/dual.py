"""LazyDual duals: results of position-wise functions that are computed by rows, and only when something needs them.

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

from spry.forward.dual import Dual, Tangents, num_tangents
from spry.forward.lazy.node import Node, materialize_leaves
from spry.forward.lazy.program import Program, select_rows


class LazyDual(Dual):
    """A dual number whose value is a row-wise program not run yet.

    Its shape is ``(*batch_shape, *row_shape)``. With ``heads_first`` and ``batch_shape = (B, S)`` the positions come after the heads, as
    attention wants them: ``(B, *row_shape[:-1], S, row_shape[-1])``.

    Args:
        node: The program's last step; its row_shape is the shape of one row.
        batch_shape: Shape of the rows.
        num_directions: K.
        device: Where the rows are.
        heads_first: Whether the positions come after the heads.
    """

    node: Node
    batch_shape: tuple[int, ...]
    num_directions: int
    heads_first: bool

    @staticmethod
    def __new__(  # pyright: ignore[reportInconsistentConstructor]
        cls: type[LazyDual],
        node: Node,
        batch_shape: tuple[int, ...],
        num_directions: int,
        device: torch.device,
        heads_first: bool = False,
    ) -> LazyDual:
        """Wrap a program."""
        row_shape = node.row_shape
        shape = (
            (batch_shape[0], *row_shape[:-1], batch_shape[1], row_shape[-1])
            if heads_first
            else (*batch_shape, *row_shape)
        )
        self = torch.Tensor._make_wrapper_subclass(  # pyright: ignore[reportAttributeAccessIssue]
            cls, shape, dtype=node.dtype, device=device
        )
        self.node, self.batch_shape, self.num_directions, self.heads_first = (
            node,
            batch_shape,
            num_directions,
            heads_first,
        )
        node.references.append(weakref.ref(self))
        return self

    @property
    def num_rows(self) -> int:
        """N, how many rows there are."""
        return math.prod(self.batch_shape)

    def pair(self) -> tuple[Tensor, Tangents]:
        """Run the program, once, and give its result.

        Returns:
            The primal and the tangents.
        """
        if self._pair is None and self._invalidated_by is None:
            materialize([self])
            assert isinstance(self.node.rows, Dual)
            primal, tangents = self.node.rows.pair()
            self._pair = (self.arrange(primal), tuple(map(self.arrange, tangents)))
        return super().pair()

    def primal_requires_grad(self) -> bool:
        """Tell whether autograd records a graph for the value, or will.

        Returns:
            True if the program has a step that requires grad.
        """
        return self.node.requires_grad if is_lazy(self) else super().primal_requires_grad()

    def assign(self, new: Dual, writer: str) -> None:
        """Take over another dual's value and derivatives; the program ends here.

        Args:
            new: A dual of this one's shape.
            writer: The name of the in-place operation.
        """
        super().assign(new, writer)
        self.node, self.batch_shape, self.heads_first = (
            Node.leaf(Dual(*super().pair())),
            tuple(self.shape[:-1]),
            False,
        )

    def arrange(self, rows: Tensor, batch_shape: tuple[int, ...] | None = None) -> Tensor:
        """Arrange rows the way this dual shows them.

        Args:
            rows: Shape (N, *row_shape).
            batch_shape: Shape of the rows, if not all of them.

        Returns:
            A view of the rows.
        """
        x = rows.view(*(self.batch_shape if batch_shape is None else batch_shape), *self.node.row_shape)
        return x.movedim(1, -2) if self.heads_first else x

    def like(self, node: Node) -> LazyDual:
        """Make another deferred dual of the same rows in the same arrangement.

        Args:
            node: Its program.

        Returns:
            The new dual.
        """
        return LazyDual(node, self.batch_shape, self.num_directions, self.device, self.heads_first)

    def select_rows(self, index: Tensor) -> LazyDual:
        """Keep some rows: the program of these rows alone.

        Args:
            index: Which rows, counted in the order of memory; its shape is the new arrangement.

        Returns:
            The picked rows, deferred.
        """
        return LazyDual(
            select_rows(self.node, index.reshape(-1)), tuple(index.shape), self.num_directions, self.device
        )


def is_lazy(value: Any) -> TypeGuard[LazyDual]:
    """Tell whether a value is a program that has not run.

    Args:
        value: Anything.

    Returns:
        True for a deferred dual whose rows do not exist yet.
    """
    return isinstance(value, LazyDual) and value.node.rows is None and value._invalidated_by is None


def materialize(duals: Sequence[LazyDual]) -> None:
    """Run the programs of some duals together, so that steps they share run once; afterwards none is pending.

    Args:
        duals: LazyDual duals of the same rows.
    """
    materialize_leaves([x.node for x in duals])
    _materialize([x.node for x in duals if x.node.rows is None], duals[0])


def compute_rows(duals: Sequence[LazyDual], rows: range) -> list[Dual]:
    """Compute some rows of some duals together, and keep their programs for others.

    Args:
        duals: LazyDual duals of the same rows.
        rows: Which, in the order of memory.

    Returns:
        One dual each, shape (rows, *row_shape).
    """
    roots = [x.node for x in duals]
    program = Program(roots, duals[0].num_directions)
    if others := [node for node in program.results if node not in roots]:  # once for all windows
        _materialize(others, duals[0])
        program = Program(roots, duals[0].num_directions)
    values = dict(zip(program.results, _computed(program, rows, duals[0]), strict=True))
    return [values[node] for node in roots]


def _materialize(nodes: Sequence[Node], like: LazyDual) -> None:
    if nodes:
        program = Program(nodes, like.num_directions)
        for node, rows in zip(program.results, _computed(program, range(like.num_rows), like), strict=True):
            node.become_leaf(rows)


def _computed(program: Program, rows: range, like: LazyDual) -> list[Dual]:
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


def _empty(node: Node, count: int, like: LazyDual) -> Dual:
    sizes = (count, *node.row_shape)
    primal, *tangents = (
        torch.empty(sizes, dtype=node.dtype, device=like.device) for _ in range(1 + like.num_directions)
    )
    return Dual(primal, tangents)


def append_op(
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    by_row: Sequence[int],
    last: int,
    dtype: torch.dtype,
    is_matmul: bool = False,
) -> Any:
    """Add a step to the programs of its arguments.

    Args:
        func: A row-wise function with a rule.
        args: Its arguments.
        kwargs: Its keyword arguments, constants all.
        by_row: Positions of the arguments that are taken row by row; the others are constants.
        last: Size of the result's last dimension.
        dtype: Type of the result.
        is_matmul: Whether the step is a matrix product.

    Returns:
        The deferred result, or NotImplemented if the rows of the arguments do not match.
    """
    duals = [args[i] for i in by_row if isinstance(args[i], Dual)]
    shape = next((x for x in duals if is_lazy(x)), None)
    shape = _as_rows(max(duals, key=Tensor.numel)) if shape is None else shape
    nodes = [_operand(x, shape) if i in by_row else x for i, x in enumerate(args)]
    if any(node is NotImplemented for node in nodes):
        return NotImplemented
    row_shapes = [nodes[i].row_shape[:-1] for i in by_row if isinstance(nodes[i], Node)]
    row_shapes += [nodes[i].shape[:-1] for i in by_row if isinstance(nodes[i], Tensor)]
    row_shape = (*torch.broadcast_shapes(*row_shapes), last)
    return shape.like(Node(func, tuple(nodes), kwargs, row_shape, dtype, is_matmul))


def _as_rows(x: Dual) -> LazyDual:
    """A dual whose last dimension is the row_shape of a row."""
    return LazyDual(Node.leaf(x), tuple(x.shape[:-1]), num_tangents(x), x.device)


def _operand(value: Any, shape: LazyDual) -> Any:
    """The node of an argument taken by rows, a constant as each row sees it, or NotImplemented."""
    if not isinstance(value, Tensor) or value.dim() < 2:
        return value
    if is_lazy(value):
        own, others = ((x.batch_shape, x.heads_first, len(x.node.row_shape)) for x in (value, shape))
        if own != others:
            return NotImplemented
        if not (value.node.was_run and value.node.has_matmul):
            return value.node
        value.pair()  # from the second use on its rows are kept
    return _existing(value, shape)


def _existing(value: Tensor, shape: LazyDual) -> Any:
    """The same for a tensor whose rows exist."""
    rank = len(shape.node.row_shape)
    missing = len(shape.batch_shape) + rank - value.dim()
    if missing < 0:
        return NotImplemented
    value = value[(None,) * missing] if missing else value
    value = value.movedim(-2, 1) if shape.heads_first else value
    batch_shape, row_shape = tuple(value.shape[:-rank]), tuple(value.shape[-rank:])
    if batch_shape == shape.batch_shape:
        return Node.leaf(value, rank)
    if math.prod(batch_shape) == 1:
        return value.reshape(row_shape)
    if any(own not in {1, full} for own, full in zip(batch_shape, shape.batch_shape, strict=True)):
        return NotImplemented
    return Node.leaf(value.expand(*shape.batch_shape, *row_shape), rank, shape.batch_shape)
