"""Says which recipe a run follows, and every setting in which it does not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from spry.experiment.config import Config, read_config
from spry.experiment.recipe import PLAIN, Base, algorithm_of, flatten
from spry.experiment.schema import AUTO
from spry.experiment.values import UNSAID
from spry.tasks.kinds import make_task

IGNORED = ("data.", "tune.")
"""Beginnings of settings that say what a recipe is used on, and how it is compared."""
ON = frozenset({"seed", "model.name", "model.device", "runtime.workers", "runtime.threads"})
"""Single settings of this kind."""
ONE_LINE = 4
"""Departures that are read in one line; more have a line for each table."""

Departures = Mapping[str, tuple[Any, Any]]
"""By setting: what it is, and what the recipe says."""


def departures(config: Config) -> Departures:
    """List the settings of a run that are not its recipe's.

    A recipe may have several tables for one method; the nearest one is taken.
    """
    found = [_differences(config, _of_recipe(config.base, name)) for name in _tables(config)]
    return min(found, key=len)


def is_tuned(config: Config) -> bool:
    """Tell whether the recipe has settings for the run's method."""
    return config.base == PLAIN or bool(_own(config))


def recipe_lines(config: Config) -> list[str]:
    """Name the recipe of a run and every departure from it."""
    return [*_told(f"recipe {config.base}", departures(config)), *_untuned([config])]


def comparison_lines(runs: Mapping[str, Config]) -> list[str]:
    """Name the recipe of several methods' runs, the departures that all share, and those of single ones."""
    found = {name: departures(run) for name, run in runs.items()}
    first, *others = found.values()
    shared = {key: pair for key, pair in first.items() if all(other.get(key) == pair for other in others)}
    own = {name: {k: pair for k, pair in of.items() if k not in shared} for name, of in found.items()}
    base = next(iter(runs.values())).base
    lines = [line for name, of in own.items() if of for line in _told(f"recipe of {name}", of)]
    return [*_told(f"recipe {base}", shared), *lines, *_untuned(list(runs.values()))]


def _told(what: str, found: Departures) -> list[str]:
    if not found:
        return [what]
    if len(found) <= ONE_LINE:
        return [f"{what}, but {_listed(found)}"]
    tables = {key.partition(".")[0]: None for key in found}
    lines = ({key: pair for key, pair in found.items() if key.partition(".")[0] == name} for name in tables)
    return [f"{what}, but", *(f"  {_listed(line)}" for line in lines)]


def _listed(found: Departures) -> str:
    return ", ".join(f"{key} = {shown(now)} ({shown(then)})" for key, (now, then) in found.items())


def _untuned(runs: list[Config]) -> list[str]:
    names = list(dict.fromkeys(run.method.name for run in runs if not is_tuned(run)))
    return [f"{', '.join(names)}: the recipe has no step sizes; the method's own are taken"] if names else []


def shown(value: Any) -> str:
    """A value as it is written, without quotes."""
    if value is None:
        return UNSAID
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _differences(config: Config, recipe: Config) -> Departures:
    now, then = config.alone().flat(), {**_options_unset(config), **recipe.flat()}
    return {
        key: (now.get(key), then.get(key))
        for key in {**now, **then}
        if now.get(key) != then.get(key) and not key.startswith(IGNORED) and key not in ON
    }


def _options_unset(config: Config) -> dict[str, Any]:
    """The options of the run's task where nothing is said of them: a recipe knows no task's."""
    name = config.task.name
    return {} if name == AUTO else flatten({"task": make_task(name).options})


def _tables(config: Config) -> list[str]:
    return _own(config) or [config.method.name]


def _own(config: Config) -> list[str]:
    methods = _recipe(config.base).methods
    layer = flatten({"methods": methods})
    return [name for name in methods if algorithm_of(name, layer) == config.method.name]


@cache
def _recipe(base: Base) -> Config:
    return read_config(base)


@cache
def _of_recipe(base: Base, name: str) -> Config:
    return _recipe(base).for_method(name, 0)
