"""Attention cut into blocks, with the part of query, key and value that each needs.

Lazy queries, keys and values are computed for the examples of one block at a time; in a batch of one, queries are
computed for the rows of one block.

Shapes: B batch, G key heads (groups), R query heads that share one, L queries, T keys, D and E head widths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from spry.forward.attention.kernel import Block
from spry.forward.chunking import MIN_QUERIES, by_device, most_scores
from spry.forward.dual import Dual
from spry.forward.lazy.dual import compute_rows, is_lazy, materialize
from spry.forward.lazy.node import topological_order

MIN_BLOCK_ROWS = 256
"""Query rows that a block is reckoned to have at least, so that few queries do not bring in many examples' keys."""


@dataclass(frozen=True)
class _Steps:
    """How many examples, groups and query rows a block takes."""

    examples: int
    groups: int
    rows: int


def blocks(query: Any, key: Any, value: Any, *, is_causal: bool) -> Iterator[tuple[Block, Any, Any, Any]]:
    """Cut attention into blocks.

    ``query`` has the shape (B, G R, L, D), ``key`` (B, G, T, D) and ``value`` (B, G, T, E), each dual or plain. A block
    comes with its part of query (n, g, R, c, D), key (n, g, T, D) and value (n, g, T, E).
    """
    batch, queries, groups, keys = query.shape[0], query.shape[2], key.shape[1], key.shape[2]
    steps = _steps(query, key)
    by_rows = _prepared(query, key, value, several=steps.rows < queries)
    for b in _ranges(batch, steps.examples):
        q = k = v = rows = None  # else they would wait beside the next examples'
        if by_rows:
            q, (k, v) = None, _taken((key, value), b)
        else:
            q, k, v = _taken((query, key, value), b)
        for i in _ranges(queries, steps.rows):
            rows = None  # else they would wait beside the next ones
            rows = _taken((query,), b, i)[0] if q is None else slice_dual(q, (slice(None), slice(None), i))
            rows = rows.unflatten(1, (groups, -1))
            last = min(keys, i.stop) if is_causal else keys
            for g in _ranges(groups, steps.groups):
                seen = (slice(None), g, slice(last))
                yield (
                    Block(b, g, i, last),
                    slice_dual(rows, (slice(None), g)),
                    slice_dual(k, seen),
                    slice_dual(v, seen),
                )


def _steps(query: Any, key: Any) -> _Steps:
    batch, heads, queries = query.shape[:3]
    groups, keys = key.shape[1], max(1, key.shape[2])
    repeats = heads // groups
    budget = most_scores(batch, query.numel(), query.device)
    rows = max(1, min(queries, max(64, budget // keys) // repeats))
    if batch == 1:
        rows = min(rows, max(by_device(MIN_QUERIES, query.device), -(-queries // 4)))
    counted = rows if rows < queries else max(rows, min(keys, MIN_BLOCK_ROWS))
    at_once = max(1, budget // (repeats * counted * keys))  # groups, of as many examples as that takes
    if at_once < groups or rows < queries:
        return _Steps(1, min(groups, at_once), rows)
    return _Steps(min(batch, at_once // groups), groups, rows)


def _ranges(count: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, count)) for start in range(0, count, max(1, step)))


def _prepared(query: Any, key: Any, value: Any, *, several: bool) -> bool:
    """Materialize the lazy ones that cannot be taken apart; tell whether queries are to be computed by rows."""
    batch = query.shape[0]
    waiting = [x for x in (query, key, value) if is_lazy(x)]
    odd = [x for x in waiting if not x.heads_first or len(x.node.row_shape) != 2 or x.batch_shape[0] != batch]
    by_rows = is_lazy(query) and batch == 1 and several and not odd
    if by_rows and len(waiting) > 1:
        steps = [{node for node in topological_order([x.node]) if node.has_matmul} for x in waiting]
        if set.intersection(*steps):  # one layer made them all: taking them apart would run it again for each
            odd, by_rows = waiting, False
    for x in odd:
        materialize([y for y in odd if y.batch_shape == x.batch_shape])
    return by_rows


def _taken(xs: Sequence[Any], examples: slice, rows: slice | None = None) -> list[Any]:
    """The parts of some examples, or of query rows of one example; lazy ones are computed together."""
    waiting = [x for x in xs if is_lazy(x)]
    parts: dict[int, Any] = {}
    for batch_shape in dict.fromkeys(x.batch_shape for x in waiting):
        alike = [x for x in waiting if x.batch_shape == batch_shape]
        positions = slice(0, batch_shape[1]) if rows is None else rows
        span = range(
            examples.start * batch_shape[1] + positions.start,
            (examples.stop - 1) * batch_shape[1] + positions.stop,
        )
        shape = (examples.stop - examples.start, positions.stop - positions.start)
        for x, computed in zip(alike, compute_rows(alike, span), strict=True):
            primal, tangents = computed.pair()
            parts[id(x)] = Dual(x.arrange(primal, shape), [x.arrange(t, shape) for t in tangents])
    index = (examples,) if rows is None else (examples, slice(None), rows)
    return [parts[id(x)] if id(x) in parts else slice_dual(x, index) for x in xs]


def slice_dual(x: Any, index: tuple[slice, ...]) -> Any:
    """Slice the first dimensions of a tensor, dual or plain."""
    if not isinstance(x, Dual):
        return x[index]
    primal, tangents = x.pair()
    return Dual(primal[index], [t[index] for t in tangents])
