"""Compares finished runs at equal rounds, within equal budgets, and by the cost of reaching a target score.

All is computed from ``rounds.jsonl``. Costs are counted up to the end of an evaluated round: seconds of local training
of all clients together, and bytes up and down of a client that takes part in every round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from spry.measure.seconds import client_seconds
from spry.tasks.score import Score


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One evaluation of the global model on the test part, and what had been spent by then.

    Args:
        client_seconds: Local training of all clients so far.
        bytes_per_client: Bytes up and down so far, averaged over the clients of each round.
    """

    rounds: int
    score: float
    client_seconds: float
    bytes_per_client: float


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a method may spend; None is no limit.

    Args:
        peak_bytes_above_model: Memory of a client above the resident model, > 0.
        client_seconds: Local training of all clients together, > 0.
        bytes_per_client: Bytes up and down of a client that takes part in every round, > 0.
    """

    peak_bytes_above_model: float | None = None
    client_seconds: float | None = None
    bytes_per_client: float | None = None


Trajectory = Sequence[Evaluation]
"""The evaluations of a run, in order."""
Trajectories = Mapping[str, Sequence[Trajectory]]
"""By method, one trajectory a seed."""


def trajectory(rounds: Sequence[Mapping[str, Any]], score: Score) -> list[Evaluation]:
    """Follow a run through its evaluations on the test part.

    A round in which memory was measured is slower for it; it counts as the median of the others.
    """
    evaluations: list[Evaluation] = []
    spent = sent = 0.0
    for entry, seconds in zip(rounds, client_seconds(rounds), strict=True):
        spent += seconds
        sent += (entry["bytes_up"] + entry["bytes_down"]) / max(len(entry["clients"]), 1)
        value = entry[score.key("test")]
        if value is not None:
            evaluations.append(
                Evaluation(
                    rounds=entry["round"] + 1, score=value, client_seconds=spent, bytes_per_client=sent
                )
            )
    return evaluations


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
    """Allow what the cheapest method spent, in seconds and in bytes, with any memory.

    That is the least, over methods, of the most that a seed spent; no limit where nothing was spent.
    """

    def least(name: str) -> float | None:
        totals = [
            max((getattr(run[-1], name) for run in runs if run), default=0.0)
            for runs in trajectories.values()
        ]
        return min(filter(None, totals), default=None)

    return Budget(client_seconds=least("client_seconds"), bytes_per_client=least("bytes_per_client"))


def best_within(
    trajectories: Trajectories, peaks: Mapping[str, float], budget: Budget, score: Score
) -> dict[str, Any]:
    """Find the best score that each method reaches within the seconds, within the bytes, and within all.

    It is null if some seed was not evaluated by then; the last one also if the method does not fit into the memory.
    """
    time, wire = (
        Budget(client_seconds=budget.client_seconds),
        Budget(bytes_per_client=budget.bytes_per_client),
    )
    rows = []
    for name, runs in trajectories.items():
        memory = budget.peak_bytes_above_model
        fits = memory is None or peaks[name] <= memory
        rows.append({
            "method": name,
            "peak_bytes_above_model": peaks[name],
            "fits": fits,
            "within_seconds": _mean_best(runs, time, score),
            "within_bytes": _mean_best(runs, wire, score),
            "within_all": _mean_best(runs, budget, score) if fits else None,
        })
    return {"budget": asdict(budget), "rows": rows}


def _mean_best(runs: Sequence[Trajectory], limit: Budget, score: Score) -> dict[str, float] | None:
    best = [score.best(seen.score for seen in run if _is_within(seen, limit)) for run in runs]
    known = [value for value in best if value is not None]
    return mean_and_std(known) if known and len(known) == len(best) else None


def _is_within(seen: Evaluation, limit: Budget) -> bool:
    seconds, sent = limit.client_seconds, limit.bytes_per_client
    return (seconds is None or seen.client_seconds <= seconds) and (
        sent is None or seen.bytes_per_client <= sent
    )


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
            "rounds": fmean(seen.rounds for seen in there) if there else None,
            "client_seconds": fmean(seen.client_seconds for seen in there) if there else None,
            "bytes_per_client": fmean(seen.bytes_per_client for seen in there) if there else None,
        })
    return {"target": target, "rows": rows}
