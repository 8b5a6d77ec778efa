"""Finished runs from three sides: at equal rounds, under a budget, and on the way to a target accuracy.

All is computed from ``rounds.jsonl``. Costs are counted up to the end of a round that was evaluated: seconds of local
training, all clients of a round together, and bytes up and down of a client that is asked in every round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any

from spry.measure.seconds import client_seconds


@dataclass(frozen=True, kw_only=True)
class Look:
    """One evaluation of the global model on the test part, and what was spent until then.

    Args:
        rounds: Rounds finished, >= 1.
        accuracy: Share of right answers.
        client_seconds: Local training of all clients so far.
        bytes_per_client: Bytes up and down so far, averaged over the clients of each round.
    """

    rounds: int
    accuracy: float
    client_seconds: float
    bytes_per_client: float


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a method may spend; None is no limit.

    Args:
        peak_bytes_above_model: Memory of a client above the resident model, > 0.
        client_seconds: Local training of all clients together, > 0.
        bytes_per_client: Bytes up and down of a client that is asked in every round, > 0.
    """

    peak_bytes_above_model: float | None = None
    client_seconds: float | None = None
    bytes_per_client: float | None = None


Course = Sequence[Look]
"""The evaluations of a run, in order."""
Courses = Mapping[str, Sequence[Course]]
"""By method, one course a seed."""


def course(rounds: Sequence[Mapping[str, Any]]) -> list[Look]:
    """Follow a run through its evaluations.

    A round in which memory was measured is slower for it; it counts as the median of the others.

    Args:
        rounds: The lines of ``rounds.jsonl``.

    Returns:
        One look for each round that was evaluated on the test part.
    """
    looks: list[Look] = []
    spent = sent = 0.0
    for entry, seconds in zip(rounds, client_seconds(rounds), strict=True):
        spent += seconds
        sent += (entry["bytes_up"] + entry["bytes_down"]) / max(len(entry["clients"]), 1)
        if entry["test_accuracy"] is not None:
            looks.append(
                Look(
                    rounds=entry["round"] + 1,
                    accuracy=entry["test_accuracy"],
                    client_seconds=spent,
                    bytes_per_client=sent,
                )
            )
    return looks


def spread(values: Sequence[float]) -> dict[str, float]:
    """Average over seeds.

    Args:
        values: One a seed, at least one.

    Returns:
        Mean and sample standard deviation; 0 for one seed.
    """
    return {"accuracy_mean": fmean(values), "accuracy_std": stdev(values) if len(values) > 1 else 0.0}


def equal_rounds(courses: Courses) -> dict[str, Any]:
    """Compare after the same numbers of rounds.

    Args:
        courses: All runs.

    Returns:
        The rounds that all runs were evaluated after, and for each method mean and deviation after each of them.
    """
    all_runs = [run for runs in courses.values() for run in runs]
    common = sorted(set.intersection(*({look.rounds for look in run} for run in all_runs)))
    rows = []
    for name, runs in courses.items():
        after = [{look.rounds: look.accuracy for look in run} for run in runs]
        rows.append({"method": name, "after": [spread([run[count] for run in after]) for count in common]})
    return {"rounds": common, "rows": rows}


def usual(courses: Courses) -> Budget:
    """Choose a budget: all that the cheapest of some methods spent, in seconds and in bytes, with any memory.

    Args:
        courses: The runs of these methods.

    Returns:
        The least, over methods, of the most that a seed spent; no limit where nothing was spent.
    """

    def least(name: str) -> float | None:
        totals = [
            max((getattr(run[-1], name) for run in runs if run), default=0.0) for runs in courses.values()
        ]
        return min(filter(None, totals), default=None)

    return Budget(client_seconds=least("client_seconds"), bytes_per_client=least("bytes_per_client"))


def within(courses: Courses, peaks: Mapping[str, float], budget: Budget) -> dict[str, Any]:
    """Find the best accuracy that each method reaches within a budget.

    Args:
        courses: All runs.
        peaks: The methods' peak memory above the model, in bytes.
        budget: The limits.

    Returns:
        The budget, and for each method whether it fits into the memory and what it reaches within the seconds, within
        the bytes, and within all: null if some seed was not evaluated by then, or the method does not fit.
    """
    rows = []
    for name, runs in courses.items():
        memory = budget.peak_bytes_above_model
        fits = memory is None or peaks[name] <= memory
        seconds = [_best(run, budget.client_seconds, None) for run in runs]
        sent = [_best(run, None, budget.bytes_per_client) for run in runs]
        every = [_best(run, budget.client_seconds, budget.bytes_per_client) if fits else None for run in runs]
        rows.append({
            "method": name,
            "peak_bytes_above_model": peaks[name],
            "fits": fits,
            "within_seconds": _spread_of(seconds),
            "within_bytes": _spread_of(sent),
            "within_all": _spread_of(every),
        })
    return {"budget": asdict(budget), "rows": rows}


def _best(run: Course, seconds: float | None, sent: float | None) -> float | None:
    reached = [
        look.accuracy
        for look in run
        if (seconds is None or look.client_seconds <= seconds)
        and (sent is None or look.bytes_per_client <= sent)
    ]
    return max(reached, default=None)


def _spread_of(values: Sequence[float | None]) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    return spread(known) if known and len(known) == len(values) else None


def to_target(courses: Courses, target: float) -> dict[str, Any]:
    """Find what each method spends until it first reaches an accuracy.

    Args:
        courses: All runs.
        target: The accuracy, in (0, 1].

    Returns:
        The target, and for each method how many seeds reach it and their mean rounds, client seconds and bytes: null
        if none does.
    """
    rows = []
    for name, runs in courses.items():
        first = [next((look for look in run if look.accuracy >= target), None) for run in runs]
        there = [look for look in first if look is not None]
        rows.append({
            "method": name,
            "seeds": len(runs),
            "reached": len(there),
            "rounds": fmean(look.rounds for look in there) if there else None,
            "client_seconds": fmean(look.client_seconds for look in there) if there else None,
            "bytes_per_client": fmean(look.bytes_per_client for look in there) if there else None,
        })
    return {"target": target, "rows": rows}
