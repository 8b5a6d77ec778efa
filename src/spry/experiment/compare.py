"""Several methods over several seeds on the same data, and what they come to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from spry.experiment.config import Config
from spry.experiment.files import write_json
from spry.experiment.run import SUMMARY, Started, finished, run
from spry.runtime.records import Round

FILE = "comparison.json"


def compare(
    config: Config, methods: Sequence[str], seeds: Sequence[int], folder: Path
) -> Iterator[tuple[str, int, Started | Round]]:
    """Run each method with each seed; what is already finished in the folder is not run again.

    Args:
        config: What the runs share; ``config.methods`` has what is a method's own, such as tuned step sizes.
        methods: Names of methods.
        seeds: Seeds; each deals the data and draws the head anew, equally for all methods.
        folder: Where the run folders ``METHOD-sSEED`` and ``comparison.json`` go.

    Yields:
        Method, seed and what the run yields.

    Raises:
        CheckpointError: If a folder holds another run, or a checkpoint cannot be written or read.
    """
    plans = [(name, seed, config.for_method(name, seed)) for seed in seeds for name in methods]
    for name, seed, own in plans:
        place = folder / f"{name}-s{seed}"
        if not finished(own, place):
            for event in run(own, place, resume=True):
                yield name, seed, event
    rows = [row(name, [_read(folder / f"{name}-s{seed}") for seed in seeds]) for name in methods]
    write_json(folder / FILE, {"rows": rows})


def row(method: str, summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Sum up one method over its seeds.

    Args:
        method: Its name.
        summaries: The ``summary.json`` of each seed.

    Returns:
        Mean and sample standard deviation of the test accuracy, and the means of what it cost.
    """
    accuracies = [summary["test_accuracy"] for summary in summaries]

    def mean(name: str) -> float | None:
        known = [summary[name] for summary in summaries if summary[name] is not None]
        return fmean(known) if known else None

    return {
        "method": method,
        "seeds": [summary["seed"] for summary in summaries],
        "accuracy_mean": fmean(accuracies),
        "accuracy_std": stdev(accuracies) if len(accuracies) > 1 else 0.0,
        "generalized_accuracy_mean": mean("generalized_accuracy"),
        "personalized_accuracy_mean": mean("personalized_accuracy"),
        "majority_accuracy": mean("majority_accuracy"),
        "peak_bytes_above_model": max(summary["peak_bytes_above_model"] for summary in summaries),
        "seconds_per_round": mean("seconds_per_round"),
        "client_seconds": mean("client_seconds_per_round"),
        "bytes_up_per_client_round": mean("bytes_up_per_client_round"),
        "bytes_down_per_client_round": mean("bytes_down_per_client_round"),
    }


def _read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
