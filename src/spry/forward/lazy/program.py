"""Row-wise programs: steps that compute each row of a matrix from the same rows of others, a few rows at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from spry.forward.chunking import most_rows
from spry.forward.lazy.node import Node, materialize_leaves, topological_order


class Program:
    """The steps that some nodes need, in order, each value dropped after its last use.

    Nodes below the roots that ``should_keep`` become results as well.
    """

    def __init__(self, roots: Sequence[Node], num_directions: int) -> None:
        materialize_leaves(roots)
        self.steps = topological_order(roots)
        self.results = [
            node for node in self.steps if node in roots or (node.rows is None and node.should_keep)
        ]
        uses = Counter(x for node in self.steps for x in node.args if isinstance(x, Node))
        self._spent = {x for x, count in uses.items() if count == 1 and x not in self.results}
        last = {x: i for i, node in enumerate(self.steps) for x in node.args if isinstance(x, Node)}
        self._dead: list[list[Node]] = [[] for _ in self.steps]
        for node, i in last.items():
            if node not in self.results:
                self._dead[i].append(node)
        self._row_bytes = self._widest() * (1 + num_directions)

    def _widest(self) -> int:
        """Bytes of all values of one row that live at the same time, one temporary included."""
        live = widest = 0
        for i, node in enumerate(self.steps):
            own = node.size * node.dtype.itemsize if node.rows is None else 0
            live += own
            widest = max(widest, live + own)
            live -= sum(x.size * x.dtype.itemsize for x in self._dead[i] if x.rows is None)
        return widest

    def chunks(self, rows: range, num_rows: int, device: torch.device) -> Iterator[tuple[slice, list[Any]]]:
        """Run the program on some of ``num_rows`` rows; yields a range of them and the values of ``results`` there."""
        for node in self.steps:
            node.was_run = True
        parts = -(-len(rows) // most_rows(self._row_bytes, num_rows, device))
        step = -(-len(rows) // max(1, parts))  # chunks of one size, rather than full ones and a rest
        for start in range(rows.start, rows.stop, max(1, step)):
            part = slice(start, min(start + step, rows.stop))
            yield part, self._run(part)

    def _run(self, rows: slice) -> list[Any]:
        values: dict[Node, Any] = {}
        for node, dead in zip(self.steps, self._dead, strict=True):
            values[node] = node.evaluate(rows, values, self._spent)
            for used in dead:
                del values[used]
        return [values[node] for node in self.results]


def select_rows(root: Node, rows: Tensor) -> Node:
    """Make the program of M rows of a node over the same rows of its leaves; ``rows`` has their indices, (M,)."""
    copies: dict[Node, Node] = {}
    for node in topological_order([root]):
        copies[node] = node.select_rows(rows, copies)
    return copies[root]
