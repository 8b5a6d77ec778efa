"""What the runs of the comparison say: cells of a table, each a row on a data set at an alpha, over its seeds.

Accuracies between evaluated rounds lie on the straight line between them. Accuracies are shares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

from benchmarks.comparison_rows import ROWS

Run = Mapping[str, Any]
Curve = Sequence[tuple[float, float]]
Place = tuple[str, float]
RIVAL = "fedavg"
"""Backpropagation with checkpointing, which all are held against."""
CLIENTS = 10
"""Clients of a round, see ``comparison.toml``."""


@dataclass(frozen=True)
class Cell:
    """The runs of one row in one place.

    Args:
        row: A name of ``ROWS``.
        runs: One run a seed, in the order of the seeds.
    """

    row: str
    runs: Sequence[Run]

    @property
    def title(self) -> str:
        """Its name in tables."""
        return ROWS[self.row].title if self.row in ROWS else self.row

    @property
    def seeds(self) -> list[int]:
        """In their order."""
        return [run["seed"] for run in self.runs]

    @property
    def rounds(self) -> list[int]:
        """After which all seeds were evaluated; 0 is before the first."""
        return sorted(set.intersection(*({point[0] for point in run["curve"]} for run in self.runs)))

    @property
    def curve(self) -> Curve:
        """The mean over the seeds."""
        return [(at, fmean(found)) for at, found in self.points]

    @property
    def points(self) -> list[tuple[int, list[float]]]:
        """The seeds' accuracies by round."""
        known = [dict(map(tuple, run["curve"])) for run in self.runs]
        return [(at, [own[at] for own in known]) for at in self.rounds]

    @property
    def best(self) -> float:
        """The highest mean accuracy after any round."""
        return max(accuracy for _, accuracy in self.curve)

    def mean(self, cost: str) -> float | None:
        """The mean of a cost over the seeds; None if a run does not know it."""
        found = [run.get(cost) for run in self.runs]
        return None if None in found else fmean(value for value in found if value is not None)

    def of_head(self, cost: str) -> float:
        """What the sums for the head took before round 1: a cost of all clients, a mean over the seeds."""
        return fmean((run.get("head") or {}).get(cost, 0.0) for run in self.runs)


def cells(result: Mapping[str, Any]) -> dict[Place, dict[str, Cell]]:
    """Sort the runs by place and row, rows in the order of ``ROWS``; those that are no longer there come last."""
    found: dict[Place, dict[str, dict[int, Run]]] = {}
    for run in result["runs"]:
        found.setdefault((run["set"], run["alpha"]), {}).setdefault(run["row"], {})[run["seed"]] = run
    order = list(ROWS)
    return {
        place: {
            row: Cell(row, [own[row][seed] for seed in sorted(own[row])])
            for row in sorted(own, key=lambda name: [*order, name].index(name))
        }
        for place, own in found.items()
    }


def crossing(curve: Curve, target: float) -> float | None:
    """The round at which a curve first reaches a target; 0 if it starts there, None if it never does."""
    if curve[0][1] >= target:
        return curve[0][0]
    for (before, low), (after, high) in pairwise(curve):
        if high >= target:
            return before + (after - before) * (target - low) / (high - low)
    return None


def value_at(curve: Curve, rounds: float) -> float:
    """The accuracy after a number of rounds, that of the last if there are more."""
    for (before, low), (after, high) in pairwise(curve):
        if rounds < after:
            return low + (high - low) * (rounds - before) / (after - before)
    return curve[-1][1]


def spent(cell: Cell, rounds: float) -> dict[str, float | None]:
    """What a number of rounds took, and the head before them, as far as the runs say it.

    Returns:
        Operations and processor seconds of all clients, and bytes up and down of one that is asked in every round.
    """
    operations, seconds, made = map(
        cell.mean, ("operations_per_client_round", "client_cpu_seconds", "rounds")
    )
    up, down = (cell.mean(f"bytes_{way}_per_client_round") for way in ("up", "down"))
    sums = (cell.of_head("bytes_up") + cell.of_head("bytes_down")) / max(cell.of_head("clients"), 1.0)
    before = {cost: cell.of_head(cost) for cost in ("operations", "cpu_seconds")}
    found: dict[str, float | None] = dict.fromkeys(("operations", "cpu_seconds", "bytes"))
    if operations is not None:
        found["operations"] = operations * CLIENTS * rounds + before["operations"]
    if seconds is not None and made:
        found["cpu_seconds"] = (seconds - before["cpu_seconds"]) * rounds / made + before["cpu_seconds"]
    if up is not None and down is not None:
        found["bytes"] = (up + down) * rounds + sums
    return found


def within(cell: Cell, budget: float) -> tuple[float, float] | None:
    """What a client that is asked in every round reaches until its uploads have taken so many bytes.

    Returns:
        The rounds that are affordable, those of the run at most, and the accuracy after them.
    """
    sent = cell.mean("bytes_up_per_client_round")
    if sent is None:
        return None
    rounds = min(budget / sent if sent else float("inf"), float(cell.rounds[-1]))
    return rounds, value_at(cell.curve, rounds)


def gap(cell: Cell, other: Cell) -> tuple[int, list[float]] | None:
    """How far a row is from another, seed by seed, after the last round that both were evaluated after.

    Returns:
        The round, and the differences in the order of the seeds that both have; None if they share none.
    """
    seeds = [seed for seed in cell.seeds if seed in other.seeds]
    common = sorted(set(cell.rounds) & set(other.rounds))
    if not seeds or not common:
        return None
    at = common[-1]
    ours, theirs = (
        {run["seed"]: dict(map(tuple, run["curve"]))[at] for run in c.runs} for c in (cell, other)
    )
    return at, [ours[seed] - theirs[seed] for seed in seeds]
