"""A finished run in a dozen numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from spry.experiment.config import Config


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a summary says of a run beyond its log.

    Args:
        majority_accuracy: Accuracy on the test part of always giving the training part's commonest answer.
        trainable_weights: How many scalar weights were trained.
        auto: What ``method.estimator = 'auto'`` chose and by which predictions; None if it was not asked.
    """

    majority_accuracy: float | None
    trainable_weights: int
    auto: Mapping[str, Any] | None = None


def summarize(config: Config, rounds: Sequence[Mapping[str, Any]], facts: Facts) -> dict[str, Any]:
    """Sum a run up from its log.

    Args:
        config: The run's configuration.
        rounds: The lines of ``rounds.jsonl``.
        facts: What the log does not say.

    Returns:
        The content of ``summary.json``; a number that was never measured is null.
    """
    last = {
        name: next((entry[name] for entry in reversed(rounds) if entry[name] is not None), None)
        for name in ("test_accuracy", "generalized_accuracy", "personalized_accuracy")
    }
    clients = [client for entry in rounds for client in entry["clients"]]
    return {
        "method": config.method.name,
        "model": config.model.name,
        "dataset": config.data.name,
        "seed": config.seed,
        "rounds": len(rounds),
        **last,
        "majority_accuracy": facts.majority_accuracy,
        "peak_bytes_above_model": max((entry["peak_bytes_above_model"] for entry in rounds), default=0),
        "seconds_per_round": median(entry["seconds"] for entry in rounds) if rounds else 0.0,
        "client_seconds_per_round": median(entry["client_seconds"] for entry in rounds) if rounds else 0.0,
        "bytes_up_per_client_round": fmean(client["bytes_up"] for client in clients) if clients else 0.0,
        "bytes_down_per_client_round": fmean(client["bytes_down"] for client in clients) if clients else 0.0,
        "failed_replies": sum(entry["failed_replies"] for entry in rounds),
        "trainable_weights": facts.trainable_weights,
        "auto": facts.auto,
    }
