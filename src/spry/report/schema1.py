"""Run folders and comparisons from before schema 2, read as if they had been written today.

Then every task was judged by its accuracy, and every configuration had every method's options.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BACKPROPAGATING = frozenset({"fedavg", "fedyogi", "fedsgd", "fedavg_split", "fedyogi_split", "local"})

RENAMED: Mapping[str, str] = {
    "accuracy": "score",
    "accuracy_mean": "score_mean",
    "accuracy_std": "score_std",
    "generalized_accuracy_mean": "generalized_score_mean",
    "personalized_accuracy_mean": "personalized_score_mean",
    "majority_accuracy": "baseline",
    "client_seconds": "client_seconds_per_round",
}
"""Keys of a comparison's rows and of what stands in its views and its tuning."""


def upgrade_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Leave checkpointing out of the settings of a method without a backward pass, for which it meant nothing."""
    if "method.estimator" not in config or config["method.name"] in BACKPROPAGATING:
        return dict(config)
    return {key: value for key, value in config.items() if key != "method.checkpoint"}


def upgrade_round(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"untrained_units" if key == "idle_units" else key: value for key, value in entry.items()}


def upgrade_comparison(comparison: Mapping[str, Any]) -> dict[str, Any]:
    if comparison.get("schema", 1) > 1:
        return dict(comparison)
    views, tuning = comparison.get("views"), comparison.get("tuning")
    return {
        **comparison,
        "rows": [_renamed(row) for row in comparison.get("rows", [])],
        "views": views and {name: _renamed(view, "client_seconds") for name, view in views.items()},
        "tuning": tuning and _renamed(tuning),
    }


def _renamed(value: Any, kept: str = "") -> Any:
    if isinstance(value, Mapping):
        return {
            key if key == kept else RENAMED.get(key, key): _renamed(part, kept) for key, part in value.items()
        }
    return [_renamed(part, kept) for part in value] if isinstance(value, list) else value
