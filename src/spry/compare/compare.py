"""Tunes several methods alike, runs each with several seeds on the same data, and writes ``comparison.json``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from spry.compare.archive import archive_stale_run
from spry.compare.costs import Budget
from spry.compare.fairness import check_fairness
from spry.compare.result import checkpoints, is_backprop_rival, read_result
from spry.compare.tune import choose_settings, list_trials, run_trial
from spry.core.errors import ConfigError, TrainingError
from spry.experiment import lock
from spry.experiment.atomic import write_json
from spry.experiment.build import check_settings
from spry.experiment.config import Config, flatten
from spry.experiment.folder import check_folder, is_finished
from spry.experiment.run import Started, run
from spry.runtime.records import Round

COMPARISON = "comparison.json"
BASELINE, CHECKPOINTED = "fedavg", "fedavg_checkpointing"
"""What joins a comparison that lacks backpropagation with checkpointing, and its name if the first is taken."""


def with_baseline(config: Config, methods: Sequence[str]) -> tuple[Config, list[str]]:
    """Add backpropagation with checkpointing at the end unless one of the methods is that already."""
    runs = (config.for_method(name, 0) for name in methods)
    if any(is_backprop_rival(own) and checkpoints(own) for own in runs):
        return config, list(methods)
    name = CHECKPOINTED if BASELINE in methods else BASELINE
    own = flatten(config.methods.get(BASELINE, {}))
    added: dict[str, Any] = {f"methods.{name}": {**own, "method.name": BASELINE, "method.checkpoint": True}}
    if BASELINE in config.tune.methods:
        added[f"tune.methods.{name}"] = config.tune.methods[BASELINE]
    return config.with_settings(added), [*methods, name]


def list_runs(config: Config, methods: Sequence[str], seeds: Sequence[int]) -> dict[str, Config]:
    """List the runs by their place in the folder before anything is tuned; only the trials, if there are any.

    Raises:
        ConfigError: If the runs differ in a setting that all methods must share, or a grid is malformed.
    """
    if not config.schedule.test:
        raise ConfigError("schedule.test is false, but methods are compared on the test part: leave it true")
    check_fairness({name: config.for_method(name, 0) for name in methods})
    trials = list_trials(config, methods)
    runs = {_place(name, seed): config.for_method(name, seed) for seed in seeds for name in methods}
    return {trial.place: trial.config for trial in trials} or runs


def compare_methods(
    config: Config,
    methods: Sequence[str],
    seeds: Sequence[int],
    folder: Path,
    *,
    budget: Budget | None = None,
    target: float | None = None,
) -> Iterator[tuple[str, Started | Round]]:
    """Tune each method, then run it with each seed; what is already done in the folder is not done again.

    Runs with settings that another grid chose are kept in the folder's ``archive``.

    Args:
        config: What the runs share; ``config.methods`` has each method's own settings, ``config.tune`` the grids.
        methods: Names of methods, or of tables in ``config.methods`` that say ``method.name``.
        seeds: Seeds; each deals the data and draws the head anew, equally for all methods.
        folder: Where the run folders ``METHOD-sSEED``, those of tuning and ``comparison.json`` go.
        budget: Limits of the view under a budget; one that is not given is what the cheapest rival spent.
        target: The score to reach; 97 % of the best backpropagated one if not given (103 % if low is good).

    Yields:
        What is running, such as ``2/6 spry, seed 0``, and what it yields.

    Raises:
        ConfigError: If the runs differ in a setting that all methods must share, or a grid is malformed.
        CheckpointError: If another process writes the folder, a folder in it holds another run, or a checkpoint
            cannot be written or read.
        TrainingError: If all trials of a method break down, or, once all others are done, a run.
    """
    first = [config.for_method(name, seed) for seed in seeds[:1] for name in methods]
    for own in (*list_runs(config, methods, seeds).values(), *first):
        check_settings(own)
    with lock.claimed(folder):
        yield from _compare(config, methods, seeds, folder, budget or Budget(), target)


def _compare(
    config: Config,
    methods: Sequence[str],
    seeds: Sequence[int],
    folder: Path,
    budget: Budget,
    target: float | None,
) -> Iterator[tuple[str, Started | Round]]:
    trials = list_trials(config, methods)
    for trial in trials:
        archive_stale_run(trial.config, trial.point, folder, trial.place)
    _check_all(folder, {trial.place: trial.config for trial in trials})
    total = len(trials) + len(seeds) * len(methods)
    for number, trial in enumerate(trials, start=1):
        for event in run_trial(trial, folder):
            yield f"{number}/{total} {trial.method}, tuning {trial.number + 1}", event
    tuned = choose_settings(trials, folder) if trials else None
    chosen = {name: tuned["methods"][name]["chosen"] if tuned else {} for name in methods}
    runs = [
        (seed, name, config.for_method(name, seed).with_settings(chosen[name]))
        for seed in seeds
        for name in methods
    ]
    for seed, name, own in runs:
        archive_stale_run(own, chosen[name], folder, _place(name, seed))
    _check_all(folder, {_place(name, seed): own for seed, name, own in runs})
    yield from _run_all(runs, folder, len(trials))
    folders = {name: [folder / _place(name, seed) for seed in seeds] for name in methods}
    result = read_result({name: own for _, name, own in runs}, folders, budget, target)
    write_json(folder / COMPARISON, {**result, "tuning": tuned})


def _check_all(folder: Path, runs: Mapping[str, Config]) -> None:
    """Refuse (CheckpointError) before anything runs what a single run would be refused for."""
    for place, own in runs.items():
        check_folder(own, folder / place, resume=True)


def _run_all(
    runs: Sequence[tuple[int, str, Config]], folder: Path, before: int
) -> Iterator[tuple[str, Started | Round]]:
    broken: list[str] = []
    for number, (seed, name, own) in enumerate(runs, start=before + 1):
        if is_finished(own, folder / _place(name, seed)):
            continue
        try:
            for event in run(own, folder / _place(name, seed), resume=True):
                yield f"{number}/{before + len(runs)} {name}, seed {seed}", event
        except TrainingError as error:  # the others are run all the same
            broken.append(f"{name}, seed {seed}: {error}")
    if broken:
        raise TrainingError(
            f"{len(broken)} of {len(runs)} runs broke down, the others are done. {' '.join(broken)}"
        )


def _place(name: str, seed: int) -> str:
    return f"{name}-s{seed}"
