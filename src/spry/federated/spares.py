"""Clients to spare: more are asked than needed, and the further ones train what others were dealt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch

from spry.core.keys import Key
from spry.core.units import names_of
from spry.federated.algorithm import Algorithm, ServerState
from spry.wire.messages import Answer, Order

MISSED, PLACES = "missed", "places"
"""The slot of the server's memory that holds which units had no reply in the last round, and the name in it."""


def with_spares(algorithm: Algorithm, number: int) -> Algorithm:
    """Deal units among the first ``number`` clients of a round, >= 1; each further one doubles one of these.

    Dealt among all, each unit would have an owner whose reply nobody waits for. Those are doubled first whose units had
    no reply in the round before, then the others in turn.
    """

    def plan(state: ServerState, clients: Sequence[int], key: Key) -> dict[int, Order]:
        owners, spare = clients[:number], clients[number:]
        dealt = algorithm.plan(state, owners, key)
        if not spare:
            return dealt
        places = state.memory[MISSED][PLACES].tolist() if MISSED in state.memory else []
        missed = frozenset(names_of([algorithm.units[place] for place in places]))
        turn = [owners[(i + state.round) % len(owners)] for i in range(len(owners))]
        turn.sort(key=lambda client: missed.isdisjoint(dealt[client].trained))
        own = algorithm.plan(state, clients, key)
        return dealt | {
            client: replace(own[client], trained=dealt[turn[i % len(turn)]].trained)
            for i, client in enumerate(spare)
        }

    def absorb(state: ServerState, answers: Iterable[Answer]) -> ServerState:
        trained: set[str] = set()
        after = algorithm.absorb(state, _noted(answers, trained))
        places = [i for i, unit in enumerate(algorithm.units) if trained.isdisjoint(unit.names)]
        memory = {slot: held for slot, held in after.memory.items() if slot != MISSED}
        if places:
            memory[MISSED] = {PLACES: torch.tensor(places)}
        return replace(after, memory=memory)

    return replace(algorithm, plan=plan, absorb=absorb, remembers=True)


def _noted(answers: Iterable[Answer], trained: set[str]) -> Iterator[Answer]:
    for answer in answers:
        trained.update(answer.order.trained)
        yield answer
