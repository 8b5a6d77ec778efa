"""Chooses each method's settings from a grid, with equally many trials for each, judged on a validation part."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spry.compare.fairness import check_fairness
from spry.compare.grid import Point, grid_points, settings_at_edge
from spry.core.errors import ConfigError, TrainingError
from spry.experiment.atomic import write_json
from spry.experiment.config import Config
from spry.experiment.folder import SUMMARY, is_finished, matches
from spry.experiment.log import read_rounds
from spry.experiment.run import Started, run
from spry.runtime.records import Round
from spry.tasks.score import Score

FOLDER, FAILED = "tuning", "failed.json"
TRIAL_SEED = 100
"""Far from the seeds that are compared: settings are not chosen by the runs they are reported on."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One point of a method's grid: its number, from 0, the settings tried, and the run that tries them."""

    method: str
    number: int
    point: Point
    config: Config

    @property
    def place(self) -> str:
        """The run's folder within the comparison's."""
        return f"{FOLDER}/{self.method}-{self.number}"


def list_trials(config: Config, methods: Sequence[str]) -> list[Trial]:
    """List what is to be tried before the comparison: equally many trials for each method, none without a grid.

    Raises:
        ConfigError: If a grid is malformed, touches what methods have to share, or has another number of points.
    """
    if not config.tune.grid and not any(config.tune.methods.get(name) for name in methods):
        return []
    grids = {name: grid_points(config, name, TRIAL_SEED) for name in methods}
    sizes = {name: len(grid) for name, grid in grids.items()}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in sizes.items())
        raise ConfigError(
            f"the grids of [tune] have unequal numbers of points ({told}). Give each the same number."
        )
    trials = [
        Trial(method=name, number=number, point=point, config=_trial_config(config, name, point))
        for number in range(max(sizes.values()))
        for name in methods
        for point in [grids[name][number]]
    ]
    check_fairness({f"{trial.method} (point {trial.number + 1})": trial.config for trial in trials})
    return trials


def run_trial(trial: Trial, folder: Path) -> Iterator[Started | Round]:
    """Run a trial unless that was done before; one whose training breaks down is recorded as failed."""
    place = folder / trial.place
    if is_finished(trial.config, place) or (matches(trial.config, place) and (place / FAILED).is_file()):
        return
    try:
        yield from run(trial.config, place, resume=True)
    except TrainingError as error:
        write_json(place / FAILED, {"failed": str(error)})


def choose_settings(trials: Sequence[Trial], folder: Path) -> dict[str, Any]:
    """Choose the best point of each method, as ``methods.NAME.chosen`` of what ``comparison.json`` keeps.

    Raises:
        TrainingError: If no trial of a method succeeded.
    """
    first = trials[0].config
    methods: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(trial.method for trial in trials):
        own = [trial for trial in trials if trial.method == name]
        tried = [{"settings": dict(trial.point), **_result(folder / trial.place)} for trial in own]
        best_first = rank_points(tried, _score(own, folder))
        if not best_first:
            raise TrainingError(
                f"{name}: training broke down at every point of its grid. Add smaller values to tune.methods.{name}, "
                f"and equally many to the other methods' grids."
            )
        best = best_first[0]["settings"]
        methods[name] = {
            "points": tried,
            "chosen": best,
            "at_edge": settings_at_edge(best, [trial.point for trial in own]),
        }
    return {
        "seed": first.seed,
        "rounds": first.schedule.rounds,
        "validation": first.data.validation,
        "points": len(trials) // len(methods),
        "methods": methods,
    }


def rank_points(tried: Sequence[dict[str, Any]], score: Score) -> list[dict[str, Any]]:
    """Order points by validation score, then loss, then place in the grid; those that broke down are left out."""
    sign = -1.0 if score.higher_is_better else 1.0
    known = [entry for entry in tried if entry["score"] is not None]
    return sorted(known, key=lambda entry: (sign * entry["score"], _or_infinite(entry["loss"])))


def _trial_config(config: Config, name: str, point: Point) -> Config:
    rounds = config.tune.rounds or config.schedule.rounds
    return config.for_method(name, TRIAL_SEED).with_settings({
        **point,
        "data.validation": config.tune.validation,
        "schedule.rounds": rounds,
        "schedule.evaluate_every": max(rounds, 1),
        "schedule.personalized": False,
        "schedule.local_tuning": 0,
        "schedule.evaluate_start": False,
        "schedule.test": False,
        "schedule.keep": "last",
        "schedule.patience": None,
    })


def _score(trials: Sequence[Trial], folder: Path) -> Score:
    done = (folder / trial.place / SUMMARY for trial in trials)
    return Score.of_summary(next((_read(path) for path in done if path.is_file()), {}))


def _result(place: Path) -> dict[str, Any]:
    if (place / FAILED).is_file():
        return {"score": None, "loss": None, **_read(place / FAILED)}
    summary = _read(place / SUMMARY)
    losses = (entry["validation_loss"] for entry in reversed(read_rounds(place)))
    loss = next((loss for loss in losses if loss is not None), None)
    return {
        "score": summary[Score.of_summary(summary).key("validation")],
        "loss": loss if loss is not None and math.isfinite(loss) else None,
    }


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _or_infinite(loss: float | None) -> float:
    return math.inf if loss is None else loss
