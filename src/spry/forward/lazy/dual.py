"""Lazy duals: results of position-wise functions, computed by rows, and only when something reads them.

A widening layer, its activation and the narrowing layer after it make one program. So do the parts of a hand-written
norm, a LoRA branch, rotary embeddings, or an LM head with its cross-entropy. The widened rows then exist for a few
positions at a time, and no module is patched: a function that is not position-wise asks for the value, and the program
runs.
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
    """A dual number whose value is a row-wise program that has not run.

    Its shape is ``(*batch_shape, *node.row_shape)``, where the node is the program's last step. With ``heads_first``
    and ``batch_shape = (B, S)`` the positions come after the heads, as attention wants them:
    ``(B, *row_shape[:-1], S, row_shape[-1])``.
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
        shape = (*batch_shape, *node.row_shape)
        if heads_first:
            shape = (batch_shape[0], *node.row_shape[:-1], batch_shape[1], node.row_shape[-1])
        self = torch.Tensor._make_wrapper_subclass(  # pyright: ignore[reportAttributeAccessIssue]
            cls, shape, dtype=node.dtype, device=device
        )
        self.node, self.batch_shape = node, batch_shape
        self.num_directions, self.heads_first = num_directions, heads_first
        node.references.append(weakref.ref(self))
        return self

    @property
    def num_rows(self) -> int:
        return math.prod(self.batch_shape)

    def pair(self) -> tuple[Tensor, Tangents]:
        """Run the program, once, and return its result."""
        if self._pair is None and self._invalidated_by is None:
            materialize([self])
            assert isinstance(self.node.rows, Dual)
            primal, tangents = self.node.rows.pair()
            self._pair = (self.arrange(primal), tuple(map(self.arrange, tangents)))
        return super().pair()

    def primal_requires_grad(self) -> bool:
        # rows that a program of others computed on its way are not asked for yet
        return self.node.requires_grad if self._pair is None else super().primal_requires_grad()

    def assign(self, new: Dual, writer: str) -> None:
        """Take over another dual's value and derivatives; the program ends here."""
        super().assign(new, writer)
        self.node = Node.leaf(Dual(*super().pair()))
        self.batch_shape, self.heads_first = tuple(self.shape[:-1]), False

    def arrange(self, rows: Tensor, batch_shape: tuple[int, ...] | None = None) -> Tensor:
        """View rows, shape (N, *row_shape), the way this dual shows them."""
        x = rows.view(*(self.batch_shape if batch_shape is None else batch_shape), *self.node.row_shape)
        return x.movedim(1, -2) if self.heads_first else x

    def like(self, node: Node) -> LazyDual:
        """Make another lazy dual of the same rows in the same arrangement."""
        return LazyDual(node, self.batch_shape, self.num_directions, self.device, self.heads_first)

    def select_rows(self, index: Tensor) -> LazyDual:
        """Keep the rows of these indices, counted in the order of memory and arranged in the shape of ``index``."""
        return LazyDual(
            select_rows(self.node, index.reshape(-1)), tuple(index.shape), self.num_directions, self.device
        )


def is_lazy(value: Any) -> TypeGuard[LazyDual]:
    """Tell whether a value is a program that has not run."""
    return isinstance(value, LazyDual) and value.node.rows is None and value._invalidated_by is None


def materialize(duals: Sequence[LazyDual]) -> None:
    """Run the programs of duals over the same rows together, so that shared steps run once."""
    materialize_leaves([x.node for x in duals])
    _materialize([x.node for x in duals if x.node.rows is None], duals[0])


def compute_rows(duals: Sequence[LazyDual], rows: range) -> list[Dual]:
    """Compute some rows, in the order of memory, of duals over the same rows; their programs stay for other rows."""
    roots = [x.node for x in duals]
    program = Program(roots, duals[0].num_directions)
    if others := [node for node in program.results if node not in roots]:  # once for all chunks of rows
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
    for part, values in program.chunks(rows, like.num_rows, like.device):
        if part.stop - part.start == len(rows):
            return values
        wholes = wholes or [_empty(node, len(rows), like) for node in program.results]
        _write(values, slice(part.start - rows.start, part.stop - rows.start), wholes)
        del values  # else they would wait beside the next chunk
    return wholes


def _write(values: Sequence[Dual], at: slice, wholes: Sequence[Dual]) -> None:
    for whole, value in zip(wholes, values, strict=True):
        for target, piece in zip(
            (whole.primal, *whole.tangents), (value.primal, *value.tangents), strict=True
        ):
            target[at] = piece


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
    """Add a step to the programs of its arguments; NotImplemented if the rows of these do not match.

    ``func`` is a row-wise function with a rule. The arguments at the positions ``by_row`` are taken row by row; the
    others are constants. ``last`` is the size of the result's last dimension.
    """
    duals = [args[i] for i in by_row if isinstance(args[i], Dual)]
    like = next((x for x in duals if is_lazy(x)), None)
    like = _as_rows(max(duals, key=Tensor.numel)) if like is None else like
    nodes = [_operand(x, like) if i in by_row else x for i, x in enumerate(args)]
    if any(node is NotImplemented for node in nodes):
        return NotImplemented
    row_shapes = [nodes[i].row_shape[:-1] for i in by_row if isinstance(nodes[i], Node)]
    row_shapes += [nodes[i].shape[:-1] for i in by_row if isinstance(nodes[i], Tensor)]
    row_shape = (*torch.broadcast_shapes(*row_shapes), last)
    return like.like(Node(func, tuple(nodes), kwargs, row_shape, dtype, is_matmul))


def _as_rows(x: Dual) -> LazyDual:
    """Start a program whose rows are the dual's last dimension."""
    return LazyDual(Node.leaf(x), tuple(x.shape[:-1]), num_tangents(x), x.device)


def _operand(value: Any, like: LazyDual) -> Any:
    """The node of an argument taken by rows, a constant that is the same for each row, or NotImplemented."""
    if not isinstance(value, Tensor) or value.dim() < 2:
        return value
    if is_lazy(value):
        own, theirs = ((x.batch_shape, x.heads_first, len(x.node.row_shape)) for x in (value, like))
        if own != theirs:
            return NotImplemented
        if not (value.node.was_run and value.node.has_matmul):
            return value.node
        value.pair()  # from the second use on its rows are kept
    return _existing(value, like)


def _existing(value: Tensor, like: LazyDual) -> Any:
    """``_operand`` of a tensor whose rows exist."""
    rank = len(like.node.row_shape)
    missing = len(like.batch_shape) + rank - value.dim()
    if missing < 0:
        return NotImplemented
    value = value[(None,) * missing] if missing else value
    value = value.movedim(-2, 1) if like.heads_first else value
    batch_shape, row_shape = tuple(value.shape[:-rank]), tuple(value.shape[-rank:])
    if batch_shape == like.batch_shape:
        return Node.leaf(value, rank)
    if math.prod(batch_shape) == 1:
        return value.reshape(row_shape)
    if any(own not in {1, full} for own, full in zip(batch_shape, like.batch_shape, strict=True)):
        return NotImplemented
    return Node.leaf(value.expand(*like.batch_shape, *row_shape), rank, like.batch_shape)
