"""Local tuning after training: each client trains the final weights on its own examples, and nothing travels."""

from __future__ import annotations

from collections.abc import Iterator
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


def tune_locally(
    algorithm: Algorithm,
    task: Task,
    clients: Federation,
    state: ServerState,
    weights: Params,
    *,
    steps: int,
    key: Key,
) -> Iterator[Tuned]:
    """Let every client that holds examples out take some steps of the method's own training.

    Step sizes are those of round 0, since a schedule's have run out.

    Args:
        state: The server's, after the last round.
        weights: The final weights, which may be those of an earlier round.
        steps: Local steps, >= 1.
        key: The run's.
    """
    final = replace(state, weights={**state.weights, **weights})
    here = key.fold("local tuning")
    for client in clients.trainable():
        held_out = clients.held_out(client)
        if not len(held_out):
            continue
        order = algorithm.plan(final, [client], here)[client]
        batches = replace(clients, steps=steps).batches(client, 0, here)
        order = replace(order, round=0)
        result = algorithm.train(task.loss, order, batches, clients.examples(client))
        failed = refusal(encode_reply(result.reply, order), order, algorithm)
        yield Tuned(
            client=client,
            examples=clients.examples(client),
            before=task.evaluate(order.weights, held_out),
            after=None if failed else task.evaluate(result.weights, held_out),
            own=None if failed or result.evaluate is None else result.evaluate(task, held_out),
            failed=failed,
        )
