"""How many operations local training takes: each kind of step is counted once, in the run itself."""

from __future__ import annotations

from collections.abc import Generator, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from spry.measure.operations import OperationCounter
from spry.wire.messages import Order


@dataclass
class Work:
    """Counts operations, step by step; steps of one kind take equally many, and only the first of them is counted.

    Counting makes a step slower, so a run does not count them all. A kind is the names of the trained weights, the
    number of directions and the shapes of the batch; a batch that is no mapping is always counted. So the numbers of a
    run that was stopped and resumed are those of one that was not.
    """

    known: dict[Hashable, int] = field(default_factory=dict)

    @contextmanager
    def steps(self, order: Order, batches: Iterable[Any]) -> Generator[CountedSteps]:
        """Give the batches of a client, which count what is computed before the next one is asked for."""
        steps = CountedSteps(self.known, order, batches)
        try:
            yield steps
        finally:
            steps.close()


class CountedSteps:
    """The batches of one client in one round.

    Args:
        operations: Of all steps so far.
        counted: Whether any step was counted, which slows it, and not looked up.
    """

    def __init__(self, known: dict[Hashable, int], order: Order, batches: Iterable[Any]) -> None:
        self.operations, self.counted = 0, False
        self._known, self._batches = known, batches
        self._asked = (order.trained, order.num_directions, order.guess is not None)
        self._open: list[Generator[Any]] = []

    def __len__(self) -> int:
        return len(self._batches)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        self._open.append(self._iterate())
        return self._open[-1]

    def close(self) -> None:
        """Stop counting, also where training broke off within a step."""
        for steps in self._open:
            steps.close()

    def _iterate(self) -> Generator[Any]:
        for batch in self._batches:
            kind = (self._asked, kind_of(batch)) if isinstance(batch, Mapping) else None
            if kind in self._known:
                self.operations += self._known[kind]
                yield batch
                continue
            self.counted = True
            with OperationCounter() as counter:
                yield batch
            self.operations += counter.total
            if kind is not None:
                self._known[kind] = counter.total


def kind_of(batch: Mapping[str, Any]) -> Hashable:
    """Tell batches apart that may take different numbers of operations: by shapes, and whether any place is padding.

    Where nothing is padding, attention that looks back only leaves out what lies ahead.
    """
    shapes = tuple((name, tuple(part.shape)) for name, part in batch.items() if isinstance(part, Tensor))
    mask = batch.get("attention_mask")
    return shapes, mask is None or bool(mask.all())
