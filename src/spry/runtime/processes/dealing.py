"""What a run does for its clients and its server, dealt over processes: the same bits as in one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import reduce
from operator import add

from spry.core.params import Params
from spry.data.batches import EvaluationBatches
from spry.runtime.client_runner import ClientRunner
from spry.runtime.executor import Completed, Failure
from spry.runtime.head_sums import ClientSums, Summed
from spry.runtime.local_tuning import LocalTuning, Tuned
from spry.runtime.processes.crew import Crew
from spry.runtime.processes.duties import EvaluationDuty, RoundDuty, SumsDuty, TuningDuty, move
from spry.tasks.task import Batch, Metrics, Task
from spry.wire.messages import Order


@dataclass(frozen=True)
class Processes:
    """Runs the clients of a round in all processes of a crew.

    Nothing stops a client that has begun: the deadline keeps others from beginning, and waits for none.
    """

    crew: Crew

    def run(
        self, orders: Sequence[Order], train: Callable[[Order], Completed], deadline: float | None = None
    ) -> Generator[Completed | Failure]:
        assert isinstance(train, ClientRunner)  # helpers run clients as the loop over rounds does
        duty = RoundDuty.of(train, tuple(order.client for order in orders))
        with closing(self.crew.share(duty, len(orders), lambda n: train(orders[n])[1:], deadline)) as done:
            for piece, (data, record) in done:
                yield Completed(orders[piece], data, record)


@dataclass(frozen=True, kw_only=True)
class DealtSums:
    """Lets clients take the sums for a head in closed form in all processes of a crew.

    Args:
        sums: Takes them in this process.
    """

    crew: Crew
    sums: ClientSums

    def __call__(self, questions: Sequence[tuple[int, bytes]]) -> Iterator[Summed]:
        asked = tuple(question for _, question in questions)
        duty = SumsDuty(questions=asked)
        done = dict(self.crew.share(duty, len(asked), lambda piece: self.sums(asked[piece])))
        return (done[piece] for piece in range(len(asked)))


@dataclass(frozen=True, kw_only=True)
class DealtEvaluation:
    """Evaluates parts of the server's data batch by batch; sums are taken in the batches' order."""

    crew: Crew
    task: Task

    def __call__(self, weights: Params, part: str, batches: Iterable[Batch]) -> Metrics:
        if not isinstance(batches, EvaluationBatches) or not len(batches):
            return self.task.evaluate(weights, batches)

        def work(piece: int) -> Metrics:
            return self.task.evaluate(weights, batches.single(piece))

        duty = EvaluationDuty(part=part, weights=move(weights, "cpu"))
        found = dict(self.crew.share(duty, len(batches), work))
        return reduce(add, (found[piece] for piece in range(len(batches))))


@dataclass(frozen=True)
class DealtTuning:
    """Tunes clients after the last round in all processes of a crew."""

    crew: Crew

    def __call__(self, tuning: LocalTuning) -> Iterator[Tuned]:
        duty = TuningDuty.of(tuning)
        done = dict(self.crew.share(duty, len(duty.clients), lambda piece: tuning(duty.clients[piece])))
        return (done[piece] for piece in range(len(duty.clients)))
