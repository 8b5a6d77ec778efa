"""Chooses each method's own settings from a grid, by as many trials for each, on a validation part."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spry.core.errors import ConfigError, TrainingError
from spry.experiment import events, fairness
from spry.experiment.config import Config, flatten
from spry.experiment.files import write_json
from spry.experiment.run import SUMMARY, Started, finished, holds, run
from spry.federated.traits import STEPS, Steps
from spry.runtime.records import Round

FOLDER, FAILED = "tuning", "failed.json"
STEP_SIZE = "lr"
"""In a grid: the step size of the clients where they step, else of the server."""

Point = Mapping[str, Any]
"""One point of a grid: settings by dotted key."""


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


def points(config: Config, name: str) -> list[Point]:
    """Spread a method's grid out.

    Args:
        config: The comparison's configuration.
        name: The method.

    Returns:
        Every combination of the values, the last setting changing fastest.

    Raises:
        ConfigError: If there is no grid for the method, a setting has no list of values, or changes nothing.
    """
    steps = STEPS[config.for_method(name, config.tune.seed).method.name]
    grid = flatten(config.tune.methods.get(name) or config.tune.grid)
    if not grid:
        raise ConfigError(
            f"[tune] has no grid for {name}. Write tune.grid, or tune.methods.{name}, such as lr = [1e-3, 1e-2]"
        )
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"the grid's {key} is {values!r}; it must be a list of values to try")
        if key != STEP_SIZE and (not key.startswith(fairness.OWN) or key == "method.name"):
            raise ConfigError(
                f"{key} cannot be tuned: it is what the methods of a comparison share, or the method itself. "
                f"A grid may have: {STEP_SIZE}, {', '.join(fairness.OWN)}"
            )
        if key in _without_effect(steps):
            raise ConfigError(
                f"{key} changes nothing for {name}, whose {key.partition('.')[0]} takes no step of its own. "
                f"Write lr, which is the step size of whoever steps, or give {name} a grid in tune.methods.{name}"
            )
    keys = [f"{steps.side}.lr" if key == STEP_SIZE else key for key in grid]
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*grid.values())]


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
    if finished(trial.config, place) or (holds(trial.config, place) and (place / FAILED).is_file()):
        return
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
        known = [entry for entry in tried if entry["accuracy"] is not None]
        if not known:
            raise TrainingError(
                f"{name}: training broke down at every point of its grid. Add smaller values to tune.methods.{name}, "
                f"and as many to the other methods' grids."
            )
        best = max(known, key=lambda entry: (entry["accuracy"], -_or_infinite(entry["loss"])))["settings"]
        methods[name] = {"points": tried, "chosen": best, "at_edge": at_edge(best, [t.point for t in own])}
    return {
        "seed": first.seed,
        "rounds": first.schedule.rounds,
        "validation": first.data.validation,
        "points": len(made) // len(methods),
        "methods": methods,
    }


def at_edge(chosen: Point, grid: Sequence[Point]) -> list[str]:
    """List the settings whose best value lies beyond the grid for all we know.

    Args:
        chosen: The best point.
        grid: All points.

    Returns:
        The keys of numbers that are the least or the largest of several tried.
    """

    def tried(key: str) -> list[Any]:
        return sorted({point[key] for point in grid})

    numbers = [
        key
        for key in chosen
        if all(isinstance(p[key], (int, float)) and not isinstance(p[key], bool) for p in grid)
    ]
    return [key for key in numbers if len(tried(key)) > 1 and chosen[key] in {tried(key)[0], tried(key)[-1]}]


def _without_effect(steps: Steps) -> list[str]:
    resting = [side for side, own in (("client", steps.client), ("server", steps.server)) if not own]
    return [f"{side}.{key}" for side in resting for key in ("lr", "optimizer")]


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
        (entry["test_loss"] for entry in reversed(events.read(place)) if entry["test_loss"] is not None), None
    )
    return {"accuracy": accuracy, "loss": loss if loss is not None and math.isfinite(loss) else None}


def _or_infinite(loss: float | None) -> float:
    return math.inf if loss is None else loss
