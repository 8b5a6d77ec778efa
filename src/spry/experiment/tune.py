"""Chooses each method's own settings from a grid, by as many trials for each, on a validation part."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spry.core.errors import ConfigError, TrainingError
from spry.experiment import fairness, log
from spry.experiment.aside import make_room
from spry.experiment.atomic import write_json
from spry.experiment.config import Config
from spry.experiment.folder import SUMMARY, is_finished, matches
from spry.experiment.grid import Point, at_edge, points
from spry.experiment.run import Started, run
from spry.runtime.records import Round

FOLDER, FAILED = "tuning", "failed.json"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One point of a method's grid.

    Args:
        method: Whose point it is.
        number: Its place in the grid, from 0.
        point: The settings tried.
        config: The run that tries them.
    """

    method: str
    number: int
    point: Point
    config: Config

    @property
    def place(self) -> str:
        """The run's folder within the comparison's."""
        return f"{FOLDER}/{self.method}-{self.number}"


def trials(config: Config, methods: Sequence[str]) -> list[Trial]:
    """List what is to be tried before the comparison.

    Args:
        config: The comparison's configuration.
        methods: What is compared.

    Returns:
        As many trials for each method; none if there is no grid.

    Raises:
        ConfigError: If a grid is malformed, touches what methods have to share, or has another number of points.
    """
    if not config.tune.grid and not any(config.tune.methods.get(name) for name in methods):
        return []
    grids = {name: points(config, name) for name in methods}
    sizes = {name: len(grid) for name, grid in grids.items()}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in sizes.items())
        raise ConfigError(f"the grids of [tune] have unequal numbers of points ({told}). Give each as many.")
    made = [
        Trial(method=name, number=number, point=point, config=_trial(config, name, point))
        for number in range(max(sizes.values()))
        for name in methods
        for point in [grids[name][number]]
    ]
    fairness.check({f"{trial.method} (point {trial.number + 1})": trial.config for trial in made})
    return made


def attempt(trial: Trial, folder: Path) -> Iterator[Started | Round]:
    """Run a trial, unless that was done before; one whose training breaks down has failed, and that is all.

    Args:
        trial: The trial.
        folder: The comparison's folder.

    Yields:
        What the run yields.

    Raises:
        CheckpointError: If the trial's folder holds another run, or a checkpoint cannot be written or read.
    """
    place = folder / trial.place
    if is_finished(trial.config, place) or (matches(trial.config, place) and (place / FAILED).is_file()):
        return
    make_room(trial.config, trial.point, folder, trial.place)
    try:
        yield from run(trial.config, place, resume=True)
    except TrainingError as error:
        write_json(place / FAILED, {"failed": str(error)})


def outcome(made: Sequence[Trial], folder: Path) -> dict[str, Any]:
    """Choose the best point of each method: by validation accuracy, then loss, then place in the grid.

    Args:
        made: All trials, done.
        folder: The comparison's folder.

    Returns:
        What ``comparison.json`` keeps of the tuning; ``methods.NAME.chosen`` are the settings.

    Raises:
        TrainingError: If no trial of a method succeeded.
    """
    first = made[0].config
    methods: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(trial.method for trial in made):
        own = [trial for trial in made if trial.method == name]
        tried = [{"settings": dict(trial.point), **_score(folder / trial.place)} for trial in own]
        best_first = ranked(tried)
        if not best_first:
            raise TrainingError(
                f"{name}: training broke down at every point of its grid. Add smaller values to tune.methods.{name}, "
                f"and as many to the other methods' grids."
            )
        best = best_first[0]["settings"]
        methods[name] = {"points": tried, "chosen": best, "at_edge": at_edge(best, [t.point for t in own])}
    return {
        "seed": first.seed,
        "rounds": first.schedule.rounds,
        "validation": first.data.validation,
        "points": len(made) // len(methods),
        "methods": methods,
    }


def ranked(tried: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Order points that were tried: by validation accuracy, then loss, then place in the grid.

    Args:
        tried: Points as ``outcome`` lists them.

    Returns:
        The best first; points whose training broke down are left out.
    """
    known = [entry for entry in tried if entry["accuracy"] is not None]
    return sorted(known, key=lambda entry: (-entry["accuracy"], _or_infinite(entry["loss"])))


def _trial(config: Config, name: str, point: Point) -> Config:
    rounds = config.tune.rounds or config.schedule.rounds
    return config.for_method(name, config.tune.seed).with_settings({
        **point,
        "data.validation": config.tune.validation,
        "schedule.rounds": rounds,
        "schedule.evaluate_every": max(rounds, 1),
        "schedule.personalized": False,
    })


def _score(place: Path) -> dict[str, Any]:
    if (place / FAILED).is_file():
        told = json.loads((place / FAILED).read_text(encoding="utf-8"))
        return {"accuracy": None, "loss": None, **told}
    accuracy = json.loads((place / SUMMARY).read_text(encoding="utf-8"))["test_accuracy"]
    loss = next(
        (entry["test_loss"] for entry in reversed(log.read(place)) if entry["test_loss"] is not None), None
    )
    return {"accuracy": accuracy, "loss": loss if loss is not None and math.isfinite(loss) else None}


def _or_infinite(loss: float | None) -> float:
    return math.inf if loss is None else loss
