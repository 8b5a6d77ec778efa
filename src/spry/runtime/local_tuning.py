"""Local tuning after training: each client trains the final weights on its own examples, and nothing travels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from spry.core.keys import Key
from spry.core.params import Params
from spry.data.federation import Federation
from spry.federated.algorithm import Algorithm, ServerState
from spry.runtime.client_runner import refusal
from spry.tasks.task import Metrics, Task
from spry.wire.codec import encode_reply


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """One client's model before and after local tuning, on the examples that it holds out.

    Args:
        examples: How many training examples it owns.
        before: The final weights.
        after: The same after local tuning; None if training broke down.
        own: The client's own model as the method evaluates it, where that is more than one set of weights.
        failed: Why training broke down, or None.
    """

    client: int
    examples: int
    before: Metrics
    after: Metrics | None
    own: Metrics | None = None
    failed: str | None = None


@dataclass(frozen=True, kw_only=True)
class LocalTuning:
    """Lets a client take some steps of the method's own training from the final weights.

    Step sizes are those of round 0, since a schedule's have run out.

    Args:
        state: The server's, after the last round, with the final weights, which may be those of an earlier round.
        steps: Local steps, >= 1.
        key: The run's.
    """

    algorithm: Algorithm
    task: Task
    clients: Federation
    state: ServerState
    steps: int
    key: Key

    def holding_out(self) -> list[int]:
        """The clients that have examples to judge it by."""
        return [client for client in self.clients.trainable() if len(self.clients.held_out(client))]

    def __call__(self, client: int) -> Tuned:
        here, held_out = self.key.fold("local tuning"), self.clients.held_out(client)
        order = replace(self.algorithm.plan(self.state, [client], here)[client], round=0)
        batches = replace(self.clients, steps=self.steps).batches(client, 0, here)
        examples = self.clients.examples(client)
        result = self.algorithm.train(self.task.loss, order, batches, examples)
        failed = refusal(encode_reply(result.reply, order), order, self.algorithm)
        return Tuned(
            client=client,
            examples=examples,
            before=self.task.evaluate(order.weights, held_out),
            after=None if failed else self.task.evaluate(result.weights, held_out),
            own=None if failed or result.evaluate is None else result.evaluate(self.task, held_out),
            failed=failed,
        )


ShareTuning = Callable[[LocalTuning], Iterator[Tuned]]
"""Tunes all clients that hold examples out, and gives what came of it in their order."""


def tune_locally(
    algorithm: Algorithm,
    task: Task,
    clients: Federation,
    state: ServerState,
    weights: Params,
    *,
    steps: int,
    key: Key,
    share: ShareTuning | None = None,
) -> Iterator[Tuned]:
    """Let every client that holds examples out take some steps from the final weights; see ``LocalTuning``.

    Args:
        share: Who does it; this process, one client after the other, without one.
    """
    final = replace(state, weights={**state.weights, **weights})
    tuning = LocalTuning(algorithm=algorithm, task=task, clients=clients, state=final, steps=steps, key=key)
    return map(tuning, tuning.holding_out()) if share is None else share(tuning)
