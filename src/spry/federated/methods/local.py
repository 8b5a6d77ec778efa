"""No federation at all: what each client reaches on its own data, the bound that taking part has to beat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import Field

from spry.core.keys import Key
from spry.core.params import Params
from spry.core.units import Unit, names_of
from spry.estimators.backprop import backprop
from spry.estimators.estimate import Estimator
from spry.federated.algorithm import Algorithm, ServerState
from spry.federated.client import ClientResult, LossOf, descend, run_client
from spry.federated.methods.registry import Options, Setup, method
from spry.optim.named import Named
from spry.optim.transform import Transform
from spry.wire.messages import Answer, Order, Weights


@method("local", paper="the usual baseline", client=Named("adamw", 1e-3), backpropagates=True, reference=True)
@dataclass(frozen=True, kw_only=True)
class Local(Options):
    """No federation: each client backpropagates on its own data alone; the bound on not taking part."""

    checkpoint: Annotated[
        bool, Field(description="Whether the backward pass recomputes activations instead of keeping them.")
    ] = True

    def build(self, setup: Setup) -> Algorithm:
        return alone(
            name=setup.name, units=setup.units, estimator=backprop(self.checkpoint), client=setup.client
        )


def alone(*, name: str, units: Sequence[Unit], estimator: Estimator, client: Transform) -> Algorithm:
    """Let each client train its own weights, going on from where it stopped when it was last asked.

    The server's weights never change: generalized accuracy stays that of the start, personalized accuracy is the
    number. The state remembers the weights of every client that was ever asked, on its behalf: nothing travels.
    """
    training = descend(estimator, client)

    def init(weights: Params) -> ServerState:
        return ServerState(round=0, weights=weights, optimizer={})

    def plan(state: ServerState, clients: Sequence[int], key: Key) -> dict[int, Order]:
        here = key.fold("round", state.round)
        return {
            client: Order(
                round=state.round,
                client=client,
                weights=state.memory.get(_slot(client), state.weights),
                trained=names_of(units),
                key=here.fold("client", client),
            )
            for client in clients
        }

    def train(loss_of: LossOf, order: Order, batches: Iterable[Any], examples: int) -> ClientResult:
        return run_client(training, loss_of, order, batches, examples)

    def absorb(state: ServerState, answers: Iterable[Answer]) -> ServerState:
        memory = dict(state.memory)
        for order, reply in answers:
            assert isinstance(reply.payload, Weights)  # ``train`` above wrote it
            if reply.steps:
                memory[_slot(order.client)] = {**order.weights, **reply.payload.values}
        return replace(state, round=state.round + 1, memory=memory)

    return Algorithm(
        name=name, units=tuple(units), init=init, plan=plan, train=train, absorb=absorb, federated=False
    )


def _slot(client: int) -> str:
    return f"client {client}"
