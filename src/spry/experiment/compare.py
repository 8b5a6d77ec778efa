"""Several methods over several seeds on the same data: tuned alike, run, and seen from three sides."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from spry.core.errors import TrainingError
from spry.experiment import fairness, log, tune, views
from spry.experiment.aside import make_room
from spry.experiment.atomic import write_json
from spry.experiment.config import Config, flatten
from spry.experiment.folder import SUMMARY, is_finished
from spry.experiment.run import Started, run
from spry.experiment.views import Budget, Courses, course, spread
from spry.federated.traits import BACKPROPAGATING, BOUNDS
from spry.runtime.records import Round

FILE = "comparison.json"
BASELINE, RECOMPUTED = "fedavg", "fedavg_checkpointing"
"""What joins a comparison in which nobody backpropagates with checkpointing, and its name if the first is taken."""
NEAR = 0.97
"""Share of the best backpropagated accuracy that is the usual target."""


def with_baseline(config: Config, methods: Sequence[str]) -> tuple[Config, list[str]]:
    """Add backpropagation with checkpointing where no method of a comparison is that.

    Args:
        config: The comparison's configuration.
        methods: What is compared.

    Returns:
        The configuration and the methods, with fedavg at the end; both unchanged if some method is that already.
    """
    if any(_is_baseline(config.for_method(name, 0)) for name in methods):
        return config, list(methods)
    name = RECOMPUTED if BASELINE in methods else BASELINE
    own = flatten(config.methods.get(BASELINE, {}))
    added: dict[str, Any] = {f"methods.{name}": {**own, "method.name": BASELINE, "method.checkpoint": True}}
    if BASELINE in config.tune.methods:
        added[f"tune.methods.{name}"] = config.tune.methods[BASELINE]
    return config.with_settings(added), [*methods, name]


def plan(config: Config, methods: Sequence[str], seeds: Sequence[int]) -> dict[str, Config]:
    """List the runs of a comparison before anything is tuned.

    Args:
        config: What the runs share; ``config.methods`` has what is a method's own.
        methods: Names of methods.
        seeds: Seeds.

    Returns:
        Configurations by their place in the folder: the trials if there is something to tune, else the runs.

    Raises:
        ConfigError: If the runs differ in what is no method's own, or a grid is malformed.
    """
    fairness.check({name: config.for_method(name, 0) for name in methods})
    trials = tune.trials(config, methods)
    runs = {_place(name, seed): config.for_method(name, seed) for seed in seeds for name in methods}
    return {trial.place: trial.config for trial in trials} or runs


def compare(
    config: Config,
    methods: Sequence[str],
    seeds: Sequence[int],
    folder: Path,
    *,
    budget: Budget | None = None,
    target: float | None = None,
) -> Iterator[tuple[str, Started | Round]]:
    """Tune each method, then run it with each seed; what is already done in the folder is not done again.

    Runs that another grid led to are kept in its ``set_aside``.

    Args:
        config: What the runs share; ``config.methods`` has what is a method's own, ``config.tune`` what is tuned.
        methods: Names of methods, or of tables in ``config.methods`` that say ``method.name``.
        seeds: Seeds; each deals the data and draws the head anew, equally for all methods.
        folder: Where the run folders ``METHOD-sSEED``, those of tuning and ``comparison.json`` go.
        budget: Limits of the view under a budget; one that is not given is what the cheapest rival spent.
        target: The accuracy to reach; 97 % of the best backpropagated one if not given.

    Yields:
        What is running, such as ``2/6 spry, seed 0``, and what it yields.

    Raises:
        ConfigError: If the runs differ in what is no method's own, or a grid is malformed.
        CheckpointError: If a folder holds another run, or a checkpoint cannot be written or read.
        TrainingError: If all trials of a method break down, or, once all others are done, a run.
    """
    plan(config, methods, seeds)
    trials = tune.trials(config, methods)
    total = len(trials) + len(seeds) * len(methods)
    for place, trial in enumerate(trials, start=1):
        for event in tune.attempt(trial, folder):
            yield f"{place}/{total} {trial.method}, tuning {trial.number + 1}", event
    tuned = tune.outcome(trials, folder) if trials else None
    chosen = {name: tuned["methods"][name]["chosen"] if tuned else {} for name in methods}
    runs = [
        (seed, name, config.for_method(name, seed).with_settings(chosen[name]))
        for seed in seeds
        for name in methods
    ]
    for seed, name, own in runs:
        make_room(own, chosen[name], folder, _place(name, seed))
    yield from _run_all(runs, folder, len(trials))
    configs = {name: own for _, name, own in runs}
    rows = [_row(name, configs[name], seeds, folder) for name in methods]
    courses = {name: [course(log.read(folder / _place(name, seed))) for seed in seeds] for name in methods}
    write_json(folder / FILE, {"rows": rows, "views": _views(rows, courses, budget, target), "tuning": tuned})


def row(method: str, summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum up one method over its seeds.

    Args:
        method: Its name.
        summaries: The ``summary.json`` of each seed.

    Returns:
        Mean and sample standard deviation of the test accuracy, and the means of what it cost.
    """

    def mean(name: str) -> float | None:
        known = [summary[name] for summary in summaries if summary[name] is not None]
        return fmean(known) if known else None

    return {
        "method": method,
        "seeds": [summary["seed"] for summary in summaries],
        **spread([summary["test_accuracy"] for summary in summaries]),
        "generalized_accuracy_mean": mean("generalized_accuracy"),
        "personalized_accuracy_mean": mean("personalized_accuracy"),
        "majority_accuracy": mean("majority_accuracy"),
        "peak_bytes_above_model": max(summary["peak_bytes_above_model"] for summary in summaries),
        "seconds_per_round": mean("seconds_per_round"),
        "client_seconds": mean("client_seconds_per_round"),
        "bytes_up_per_client_round": mean("bytes_up_per_client_round"),
        "bytes_down_per_client_round": mean("bytes_down_per_client_round"),
    }


def _run_all(
    runs: Sequence[tuple[int, str, Config]], folder: Path, before: int
) -> Iterator[tuple[str, Started | Round]]:
    broken: list[str] = []
    for place, (seed, name, own) in enumerate(runs, start=before + 1):
        if is_finished(own, folder / _place(name, seed)):
            continue
        try:
            for event in run(own, folder / _place(name, seed), resume=True):
                yield f"{place}/{before + len(runs)} {name}, seed {seed}", event
        except TrainingError as error:  # the others are run all the same
            broken.append(f"{name}, seed {seed}: {error}")
    if broken:
        raise TrainingError(
            f"{len(broken)} of {len(runs)} runs broke down, the others are done. {' '.join(broken)}"
        )


def _row(name: str, config: Config, seeds: Sequence[int], folder: Path) -> dict[str, Any]:
    files = [folder / _place(name, seed) / SUMMARY for seed in seeds]
    summed = row(name, [json.loads(file.read_text(encoding="utf-8")) for file in files])
    backpropagates = config.method.name in BACKPROPAGATING
    checkpointing = config.method.checkpoint if backpropagates else None
    return {**summed, "algorithm": config.method.name, "checkpointing": checkpointing}


def _views(
    rows: Sequence[Mapping[str, Any]], courses: Courses, budget: Budget | None, target: float | None
) -> dict[str, Any]:
    rivals = {row["method"] for row in rows if row["algorithm"] not in BOUNDS} or set(courses)
    usual = views.usual({name: runs for name, runs in courses.items() if name in rivals})
    asked = budget or Budget()
    limits = Budget(
        peak_bytes_above_model=asked.peak_bytes_above_model,
        client_seconds=asked.client_seconds or usual.client_seconds,
        bytes_per_client=asked.bytes_per_client or usual.bytes_per_client,
    )
    peaks = {row["method"]: row["peak_bytes_above_model"] for row in rows}
    backpropagated = [row["accuracy_mean"] for row in rows if row["algorithm"] in BACKPROPAGATING - BOUNDS]
    goal = target or (NEAR * max(backpropagated) if backpropagated else None)
    return {
        "equal_rounds": views.equal_rounds(courses),
        "budget": views.within(courses, peaks, limits),
        "target": views.to_target(courses, goal) if goal else None,
    }


def _is_baseline(config: Config) -> bool:
    return config.method.name in BACKPROPAGATING - BOUNDS and config.method.checkpoint


def _place(name: str, seed: int) -> str:
    return f"{name}-s{seed}"
