"""What ``comparison.json`` says: one row a method, and three views of all runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from spry.compare.costs import (
    SPENT,
    Budget,
    Trajectories,
    at_equal_rounds,
    best_within,
    cost_to_target,
    default_budget,
    mean_and_std,
    trajectory,
)
from spry.experiment.config import Config
from spry.experiment.log import read_rounds
from spry.experiment.run import SUMMARY
from spry.tasks.score import Score

NEAR = 0.97
"""Share of the best backpropagated score that is the usual target; of a score that is to be low, 1.03."""


def read_result(
    configs: Mapping[str, Config], folders: Mapping[str, Sequence[Path]], budget: Budget, target: float | None
) -> dict[str, Any]:
    """Sum up finished runs into ``schema``, ``score``, ``rows`` and ``views``; folders are one a seed, by method."""
    summaries = {name: [_read(folder / SUMMARY) for folder in own] for name, own in folders.items()}
    score = Score.of_summary(next(iter(summaries.values()))[0])
    rows = [
        {**summarize_method(name, summaries[name]), **_traits(config)} for name, config in configs.items()
    ]
    trajectories = {
        name: [trajectory(read_rounds(folder), score) for folder in own] for name, own in folders.items()
    }
    return {
        "schema": 3,
        "score": {"name": score.name, "higher_is_better": score.higher_is_better},
        "rows": rows,
        "views": {
            "equal_rounds": at_equal_rounds(trajectories),
            "budget": best_within(
                trajectories,
                {row["method"]: row["peak_bytes_above_model"] for row in rows},
                _limits(budget, trajectories, rows),
                score,
            ),
            "target": _cost_to(target, trajectories, rows, score),
        },
    }


def summarize_method(name: str, summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Average one method's ``summary.json`` over its seeds; of the peaks, take the highest."""
    score = Score.of_summary(summaries[0])

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return fmean(known) if known else None

    def mean_of(key: str) -> float | None:
        return mean([summary.get(key) for summary in summaries])

    return {
        "method": name,
        "seeds": [summary["seed"] for summary in summaries],
        **mean_and_std([summary[score.key("test")] for summary in summaries]),
        "generalized_score_mean": mean_of(score.key("generalized")),
        "personalized_score_mean": mean_of(score.key("personalized")),
        "baseline": mean([Score.of_summary(summary).baseline for summary in summaries]),
        "peak_bytes_above_model": max(summary["peak_bytes_above_model"] for summary in summaries),
        "seconds_per_round": mean_of("seconds_per_round"),
        "client_seconds_per_round": mean_of("client_seconds_per_round"),
        "operations": mean_of("operations"),
        "client_cpu_seconds": mean_of("client_cpu_seconds"),
        "operations_per_client_round": mean_of("operations_per_client_round"),
        "bytes_up_per_client_round": mean_of("bytes_up_per_client_round"),
        "bytes_down_per_client_round": mean_of("bytes_down_per_client_round"),
    }


def is_rival(config: Config) -> bool:
    """Whether a method trains the backbone in a federation; others are bounds."""
    return not config.method.info.reference


def is_backprop_rival(config: Config) -> bool:
    return is_rival(config) and config.method.info.backpropagates


def checkpoints(config: Config) -> bool | None:
    """Whether the backward pass recomputes activations; None for a method without one."""
    return getattr(config.method.options, "checkpoint", None) if config.method.info.backpropagates else None


def _traits(config: Config) -> dict[str, Any]:
    return {
        "algorithm": config.method.name,
        "checkpointing": checkpoints(config),
        "rival": is_rival(config),
        "backpropagates": config.method.info.backpropagates,
    }


def _limits(budget: Budget, trajectories: Trajectories, rows: Sequence[Mapping[str, Any]]) -> Budget:
    rivals = {row["method"] for row in rows if row["rival"]} or set(trajectories)
    usual = default_budget({name: runs for name, runs in trajectories.items() if name in rivals})
    return Budget(
        peak_bytes_above_model=budget.peak_bytes_above_model,
        **{name: getattr(budget, name) or getattr(usual, name) for name in SPENT},
    )


def _cost_to(
    target: float | None, trajectories: Trajectories, rows: Sequence[Mapping[str, Any]], score: Score
) -> dict[str, Any] | None:
    if target is None:
        best = score.best(row["score_mean"] for row in rows if row["rival"] and row["backpropagates"])
        if best is None:
            return None
        target = best * (NEAR if score.higher_is_better == (best >= 0) else 2 - NEAR)
    return cost_to_target(trajectories, target, score)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
