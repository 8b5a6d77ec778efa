"""A finished run in a dozen numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any

from spry.experiment.config import Config
from spry.measure.before import head_of, with_head
from spry.measure.seconds import client_seconds, total
from spry.tasks.task import Score


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a summary says of a run beyond its log; weights are counted as scalars.

    Args:
        labels: The classes' names, in the order of their numbers.
        data: What was so where a setting left it open, such as how many clients there were and where texts were cut.
        kept_after_rounds: After how many rounds the weights are those of the adapter.
        stopped_early: Why the run ended before its last round; None if it did not.
        local_tuning: What clients gained by local tuning after the last round; None if there was none.
        privacy: What was kept private, and what was spent; None without an accountant.
    """

    score: Score
    labels: Sequence[str]
    trainable_weights: int
    data: Mapping[str, Any]
    kept_after_rounds: int
    stopped_early: str | None = None
    local_tuning: Mapping[str, Any] | None = None
    privacy: Mapping[str, Any] | None = None


def summarize(config: Config, rounds: Sequence[Mapping[str, Any]], facts: RunFacts) -> dict[str, Any]:
    """Sum a run up from the lines of its ``rounds.jsonl``; a number that was never measured is null.

    Its scores are those of the round that is kept.
    """
    scores = map(facts.score.key, ("test", "validation", "generalized", "personalized"))
    until = rounds[: facts.kept_after_rounds]
    last = {
        name: next((entry[name] for entry in reversed(until) if entry.get(name) is not None), None)
        for name in (*scores, "test_details", "validation_details")
    }
    clients = [client for entry in rounds for client in entry["clients"]]
    counted = [client["operations"] for client in clients if client.get("operations") is not None]
    return {
        "schema": 2,
        "method": config.method.name,
        "model": config.model.name,
        "dataset": config.data.name,
        "seed": config.seed,
        "rounds": len(rounds),
        "kept_after_rounds": facts.kept_after_rounds,
        "stopped_early": facts.stopped_early,
        **last,
        "score": asdict(facts.score),
        "peak_bytes_above_model": max((entry["peak_bytes_above_model"] for entry in rounds), default=0),
        "seconds_per_round": median(entry["seconds"] for entry in rounds) if rounds else 0.0,
        "client_seconds_per_round": median(entry["client_seconds"] for entry in rounds) if rounds else 0.0,
        "client_cpu_seconds": total(
            with_head(rounds, "cpu_seconds", client_seconds(rounds, "client_cpu_seconds"))
        ),
        "operations": total(with_head(rounds, "operations", (entry.get("operations") for entry in rounds))),
        "operations_per_client_round": fmean(counted) if counted else None,
        "bytes_up_per_client_round": fmean(client["bytes_up"] for client in clients) if clients else 0.0,
        "bytes_down_per_client_round": fmean(client["bytes_down"] for client in clients) if clients else 0.0,
        "failed_replies": sum(entry["failed_replies"] for entry in rounds),
        "trainable_weights": facts.trainable_weights,
        "labels": list(facts.labels),
        "head": dict(head_of(rounds)) or None,
        **({"local_tuning": dict(facts.local_tuning)} if facts.local_tuning else {}),
        **({"privacy": dict(facts.privacy)} if facts.privacy else {}),
        **facts.data,
    }
