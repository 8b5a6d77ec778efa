"""A split for clients of unequal means: each is dealt as much of the model as it can hold, the smallest the top."""

from __future__ import annotations

from collections.abc import Sequence

from spry.core.errors import ConfigError
from spry.core.unit import Unit
from spry.federated.split import Split


def budgeted(shares: Sequence[float]) -> Split:
    """Deal runs of neighbouring units in proportion to the clients' budgets, never more than a budget.

    The smallest budgets are served first and from the top of the model, where a run costs the least: tangents, or
    kept activations, begin at a client's lowest unit. The deal goes on downwards, and around again while there are
    clients; the largest budget comes last and takes all that is left, as far as it goes. Units that no budget of the
    round has room for stay idle; a client with room for none trains the head alone.

    Args:
        shares: ``b``: client c can train ``b[c mod len(b)]`` of the body's weights, each in (0, 1].

    Returns:
        The split. Clients of one budget take turns over the rounds.

    Raises:
        ConfigError: If there is no share, or one is out of range.
    """
    if not shares or not all(0 < share <= 1 for share in shares):
        raise ConfigError(f"budgets are {list(shares)}; each must be greater than 0 and at most 1")

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
