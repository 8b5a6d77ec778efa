"""Who trains what in a round: splits deal the units of a model among the round's clients; the head goes to all."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Protocol

from spry.core.errors import ConfigError
from spry.core.units import Unit


class Split(Protocol):
    def __call__(
        self, units: Sequence[Unit], clients: Sequence[int], round: int
    ) -> dict[int, tuple[Unit, ...]]:
        """Deal L units, and any head, to the M clients of a round; the deal rotates with the round, from 0.

        Each client gets its units in the model's order, the head included.
        """
        ...


def everything(units: Sequence[Unit], clients: Sequence[int], round: int) -> dict[int, tuple[Unit, ...]]:
    """Give every unit to every client: no split."""
    return {client: tuple(units) for client in clients}


def cyclic(units: Sequence[Unit], clients: Sequence[int], round: int) -> dict[int, tuple[Unit, ...]]:
    """Deal units like cards, each to the client with the fewest weights so far.

    Among equals it is the next in turn, so that units of one size go to client ``(j + round) mod M``; the clients'
    shares then differ by at most one unit. With more clients than units the clients are dealt instead, the i-th to unit
    ``(i + round) mod L``, so that each unit has about M / L owners.

    Source:
        Panchal et al. 2024 (arXiv 2405.15551), section 3.1; the rotation is ours, so that no client index is tied to
        a unit over the rounds.
    """
    body = [unit for unit in units if not unit.head]
    if len(body) <= len(clients):
        return _owners(units, clients, round)
    turn = [clients[(i + round) % len(clients)] for i in range(len(clients))]
    hands: dict[int, set[str]] = {client: set() for client in clients}
    held = dict.fromkeys(turn, 0)
    for unit in body:
        lightest = min(turn, key=held.__getitem__)  # the first of them, if several are
        hands[lightest].add(unit.name)
        held[lightest] += unit.size
    return _with_head(units, hands)


def contiguous(units: Sequence[Unit], clients: Sequence[int], round: int) -> dict[int, tuple[Unit, ...]]:
    """Cut the model into M runs of neighbouring units, the i-th client taking run ``(i + round) mod M``.

    A client's tangents begin at its lowest unit, so the owner of the topmost run does hardly more than inference.
    Runs are cut where the weights below reach ``i / M`` of all; a run has at least one unit, and runs of units of one
    size differ by at most one in length. With more clients than units this is ``cyclic``.
    """
    body = [unit for unit in units if not unit.head]
    if len(body) <= len(clients):
        return _owners(units, clients, round)
    m = len(clients)
    cuts = _cuts([unit.size for unit in body], m)
    runs = [{unit.name for unit in body[low:high]} for low, high in pairwise(cuts)]
    return _with_head(units, {client: runs[(i + round) % m] for i, client in enumerate(clients)})


def _cuts(sizes: Sequence[int], runs: int) -> list[int]:
    """Cut a row of sizes into runs of about equal sums, none empty."""
    sums, cuts = list(accumulate(sizes)), [0]
    for i in range(1, runs):
        cut = bisect_right(sums, i * sums[-1] / runs)
        cuts.append(min(max(cut, cuts[-1] + 1), len(sizes) - runs + i))
    return [*cuts, len(sizes)]


def _owners(units: Sequence[Unit], clients: Sequence[int], round: int) -> dict[int, tuple[Unit, ...]]:
    """Deal clients to units: at most one unit each, about M / L owners a unit."""
    body = [unit for unit in units if not unit.head]
    return _with_head(
        units,
        {client: {body[(i + round) % len(body)].name} if body else set() for i, client in enumerate(clients)},
    )


def _with_head(units: Sequence[Unit], names: Mapping[int, set[str]]) -> dict[int, tuple[Unit, ...]]:
    return {client: tuple(u for u in units if u.head or u.name in own) for client, own in names.items()}


def head_only(units: Sequence[Unit], clients: Sequence[int], round: int) -> dict[int, tuple[Unit, ...]]:
    """Give the head alone to every client; the backbone stays frozen."""
    return _with_head(units, {client: set() for client in clients})


def budgeted(shares: Sequence[float]) -> Split:
    """Deal runs of neighbouring units in proportion to the clients' budgets, never more than a budget.

    The smallest budgets are served first and from the top of the model, where a run costs the least: tangents, or
    kept activations, begin at a client's lowest unit. The deal goes on downwards, and around again while there are
    clients; the largest budget comes last and takes the rest, up to its limit. Units that no budget of the round has
    room for stay idle; a client with room for none trains the head alone. Clients of one budget take turns over the
    rounds.

    Args:
        shares: ``b``: client c can train ``b[c mod len(b)]`` of the body's weights, each in (0, 1].

    Raises:
        ConfigError: If there is no share, or one is out of range.
    """
    if not shares or not all(0 < share <= 1 for share in shares):
        raise ConfigError(
            f"method.split has the budgets {list(shares)}; each must be greater than 0 and at most 1"
        )

    def deal(units: Sequence[Unit], clients: Sequence[int], round: int) -> dict[int, tuple[Unit, ...]]:
        body = [unit for unit in units if not unit.head]
        whole = sum(unit.size for unit in body)
        limit = {client: shares[client % len(shares)] * whole for client in clients}
        fair = whole / max(sum(limit.values()), 1)
        turn = [clients[(i + round) % len(clients)] for i in range(len(clients))]
        hands: dict[int, set[str]] = {client: set() for client in clients}
        down, place = body[::-1], 0
        *poorer, richest = sorted(turn, key=limit.__getitem__)
        for client in poorer:
            run = _run(down[place % len(down) :] if down else [], limit[client], limit[client] * min(fair, 1))
            hands[client] = {unit.name for unit in run}
            place += len(run)
        left = down[place:] or down  # the whole model again, if all of it has an owner
        goal = limit[richest] if place < len(down) else limit[richest] * min(fair, 1)
        hands[richest] = {unit.name for unit in _run(left, limit[richest], goal)}
        return {client: tuple(u for u in units if u.head or u.name in own) for client, own in hands.items()}

    return deal


def _run(units: Sequence[Unit], limit: float, goal: float) -> list[Unit]:
    """Take units from the first on: one if it fits, then up to about the goal, never beyond the limit."""
    run: list[Unit] = []
    held = 0
    for unit in units:
        if held + unit.size > limit * (1 + 1e-9) or (run and held + unit.size / 2 > goal):
            break
        run.append(unit)
        held += unit.size
    return run
