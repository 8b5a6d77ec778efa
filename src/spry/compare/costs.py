"""Compares finished runs at equal rounds, within equal budgets, and by the cost of reaching a target score.

All is computed from ``rounds.jsonl``. Costs are counted up to the end of an evaluated round: operations and processor
seconds of local training of all clients together, and bytes up and down of a client that takes part in every round.
Methods are ranked by these. Wall time, which depends on what else the machine does, is told and ranks nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from statistics import fmean, stdev
from typing import Any

from spry.core.errors import ConfigError
from spry.measure.before import head_of, with_head
from spry.measure.seconds import client_seconds
from spry.tasks.score import Score


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One evaluation of the global model on the test part, and what had been spent by then; None is unknown.

    Args:
        operations: Floating-point operations of local training of all clients so far.
        bytes_per_client: Bytes up and down so far, averaged over the clients of each round.
        cpu_seconds: Processor time of local training of all clients so far.
        client_seconds: Wall time of the same.
    """

    rounds: int
    score: float
    operations: float | None
    bytes_per_client: float | None
    cpu_seconds: float | None
    client_seconds: float | None


SPENT = ("operations", "bytes_per_client", "cpu_seconds")
"""What a method can be limited to besides memory, and is ranked by."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a method may spend; None is no limit.

    Args:
        peak_bytes_above_model: Memory of a client above the resident model, > 0.
        operations: Floating-point operations of local training of all clients together, > 0.
        bytes_per_client: Bytes up and down of a client that takes part in every round, > 0.
        cpu_seconds: Processor time of local training of all clients together, > 0.
    """

    peak_bytes_above_model: float | None = None
    operations: float | None = None
    bytes_per_client: float | None = None
    cpu_seconds: float | None = None


_SUFFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12, "p": 1e15, "e": 1e18}


def parse_operations(text: str) -> float:
    """Read a number of operations, such as ``5e12``, ``5T`` or ``800 GFLOP``.

    >>> parse_operations("5e12"), parse_operations("0.5 TFLOP"), parse_operations("800G")
    (5000000000000.0, 500000000000.0, 800000000000.0)
    """
    found = re.fullmatch(
        r"\s*([0-9]*\.?[0-9]+(?:e\+?[0-9]+)?)\s*([kmgbtpe]?)(?:flops?)?\s*", text, re.IGNORECASE
    )
    if not found or not float(found[1]):
        raise ConfigError(
            f"{text!r} is no number of operations; write one such as 5e12, 5T or 800G (powers of 1000)"
        )
    return float(found[1]) * _SUFFIXES[found[2].lower()]


Trajectory = Sequence[Evaluation]
"""The evaluations of a run, in order."""
Trajectories = Mapping[str, Sequence[Trajectory]]
"""By method, one trajectory a seed."""


def trajectory(rounds: Sequence[Mapping[str, Any]], score: Score) -> list[Evaluation]:
    """Follow a run through its evaluations on the test part.

    A round that was slowed by measuring counts as the median of the others. What a head in closed form took counts with
    the first round.
    """
    values = {
        "operations": (entry.get("operations") for entry in rounds),
        "bytes_per_client": (
            _per_client(entry, len(entry["clients"])) + (_head_bytes(rounds) if not place else 0)
            for place, entry in enumerate(rounds)
        ),
        "cpu_seconds": client_seconds(rounds, "client_cpu_seconds"),
        "client_seconds": client_seconds(rounds),
    }
    logged = {"client_seconds": "seconds"}
    spent = {
        name: _running_sum(with_head(rounds, logged.get(name, name), own)) for name, own in values.items()
    }
    return [
        Evaluation(
            rounds=entry["round"] + 1,
            score=entry[score.key("test")],
            **{name: sums[place] for name, sums in spent.items()},
        )
        for place, entry in enumerate(rounds)
        if entry[score.key("test")] is not None
    ]


def _per_client(spent: Mapping[str, Any], clients: int) -> float:
    return (spent["bytes_up"] + spent["bytes_down"]) / max(clients, 1)


def _head_bytes(rounds: Sequence[Mapping[str, Any]]) -> float:
    """Of a client that took sums for the head."""
    head = head_of(rounds)
    return _per_client(head, head["clients"]) if head else 0.0


def _running_sum(values: Iterable[float | None]) -> list[float | None]:
    """Add up; unknown from the first value on that is."""
    sums = accumulate(math.nan if value is None else value for value in values)
    return [None if math.isnan(total) else total for total in sums]


def mean_and_std(values: Sequence[float]) -> dict[str, float]:
    """Average scores over seeds; the sample standard deviation of one seed is 0."""
    return {"score_mean": fmean(values), "score_std": stdev(values) if len(values) > 1 else 0.0}


def at_equal_rounds(trajectories: Trajectories) -> dict[str, Any]:
    """Compare means and deviations after each number of rounds at which all runs were evaluated."""
    all_runs = [run for runs in trajectories.values() for run in runs]
    common = sorted(set.intersection(*({seen.rounds for seen in run} for run in all_runs)))
    rows = []
    for name, runs in trajectories.items():
        after = [{seen.rounds: seen.score for seen in run} for run in runs]
        rows.append({
            "method": name,
            "after": [mean_and_std([run[count] for run in after]) for count in common],
        })
    return {"rounds": common, "rows": rows}


def default_budget(trajectories: Trajectories) -> Budget:
    """Allow what the cheapest method spent, in operations, bytes and processor seconds, with any memory.

    That is the least, over methods, of the most that a seed spent; no limit where nothing was spent.
    """

    def least(name: str) -> float | None:
        totals = [
            max((getattr(run[-1], name) or 0.0 for run in runs if run), default=0.0)
            for runs in trajectories.values()
        ]
        return min(filter(None, totals), default=None)

    return Budget(**{name: least(name) for name in SPENT})


def best_within(
    trajectories: Trajectories, peaks: Mapping[str, float], budget: Budget, score: Score
) -> dict[str, Any]:
    """Find the best score that each method reaches within each limit, and within all.

    It is null if some seed was not evaluated by then; the last one also if the method does not fit into the memory.
    """
    rows = []
    for name, runs in trajectories.items():
        memory = budget.peak_bytes_above_model
        fits = memory is None or peaks[name] <= memory
        alone = {limit: Budget(**{limit: getattr(budget, limit)}) for limit in SPENT}
        rows.append({
            "method": name,
            "peak_bytes_above_model": peaks[name],
            "fits": fits,
            **{f"within_{limit}": _mean_best(runs, only, score) for limit, only in alone.items()},
            "within_all": _mean_best(runs, budget, score) if fits else None,
        })
    return {"budget": asdict(budget), "rows": rows}


def _mean_best(runs: Sequence[Trajectory], limit: Budget, score: Score) -> dict[str, float] | None:
    best = [score.best(seen.score for seen in run if _is_within(seen, limit)) for run in runs]
    known = [value for value in best if value is not None]
    return mean_and_std(known) if known and len(known) == len(best) else None


def _is_within(seen: Evaluation, limit: Budget) -> bool:
    limits = {name: most for name in SPENT if (most := getattr(limit, name)) is not None}
    spent = {name: getattr(seen, name) for name in limits}
    return all(spent[name] is not None and spent[name] <= most for name, most in limits.items())


def cost_to_target(trajectories: Trajectories, target: float, score: Score) -> dict[str, Any]:
    """Find what each method spends until it first reaches a score, on average over the seeds that reach it."""
    rows = []
    for name, runs in trajectories.items():
        first = [next((seen for seen in run if score.reaches(seen.score, target)), None) for run in runs]
        there = [seen for seen in first if seen is not None]
        rows.append({
            "method": name,
            "seeds": len(runs),
            "reached": len(there),
            **{cost: _mean_known(there, cost) for cost in ("rounds", *SPENT, "client_seconds")},
        })
    return {"target": target, "rows": rows}


def _mean_known(seen: Sequence[Evaluation], cost: str) -> float | None:
    values = [value for one in seen if (value := getattr(one, cost)) is not None]
    return fmean(values) if values and len(values) == len(seen) else None
