"""The grid of settings that is tried for a method, and whether the best point lies at its edge."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from spry.compare.fairness import METHOD_SETTINGS
from spry.core.errors import ConfigError
from spry.experiment.build import ANY_UNITS
from spry.experiment.config import Config, flatten

STEP_SIZE = "lr"
"""In a grid: the step size of the clients where they step, else of the server."""

FACTORS = "step_factors"
"""The table of factors by group of weights."""

Point = Mapping[str, Any]
"""One point of a grid: settings by dotted key."""


def grid_points(config: Config, name: str, seed: int) -> list[Point]:
    """List every combination of the values of a method's grid, the last setting changing fastest.

    Raises:
        ConfigError: If there is no grid for the method, a setting has no list of values, or changes nothing.
    """
    own = config.for_method(name, seed)
    grid = flatten(config.tune.methods.get(name) or config.tune.grid)
    if not grid:
        raise ConfigError(
            f"[tune] has no grid for {name}. Write tune.grid, or tune.methods.{name}, such as lr = [1e-3, 1e-2]"
        )
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"the grid's {key} is {values!r}; it must be a list of values to try")
        if key != STEP_SIZE and (not key.startswith(METHOD_SETTINGS) or key == "method.name"):
            raise ConfigError(
                f"{key} cannot be tuned: all methods of a comparison share it, or it is the method itself. "
                f"A grid may have: {STEP_SIZE}, {', '.join(METHOD_SETTINGS)}"
            )
        if why := _why_without_effect(own, key, grid):
            raise ConfigError(
                f"{key} changes nothing for {name}, {why}, or give {name} a grid in tune.methods.{name}"
            )
    keys = [f"{own.method.options.stepper}.lr" if key == STEP_SIZE else key for key in grid]
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*grid.values())]


def settings_at_edge(chosen: Point, grid: Sequence[Point]) -> list[str]:
    """List the numeric settings whose chosen value is the least or the largest of several tried."""

    def tried(key: str) -> list[Any]:
        return sorted({point[key] for point in grid})

    numbers = [
        key
        for key in chosen
        if all(isinstance(p[key], (int, float)) and not isinstance(p[key], bool) for p in grid)
    ]
    return [key for key in numbers if len(tried(key)) > 1 and chosen[key] in {tried(key)[0], tried(key)[-1]}]


def _why_without_effect(config: Config, key: str, grid: Mapping[str, Any]) -> str:
    """Say why a method's runs would not depend on a setting, and what to write instead; nothing if they do."""
    table, _, name = key.partition(".")
    if table == FACTORS:
        return _why_no_factor(config, name, grid)
    rests = {
        "client": config.method.options.stepper != "client",
        "server": config.method.info.server is None,
    }
    if not rests.get(table) or name not in {"lr", "optimizer"}:
        return ""
    return f"whose {table} takes no step. Write lr, which is the step size of whoever steps"


def _why_no_factor(config: Config, group: str, grid: Mapping[str, Any]) -> str:
    method = config.method
    if group not in {unit.group for unit in method.info(ANY_UNITS, **(method.model_extra or {})).units}:
        return f"which does not train the {group}. Leave it out"
    if group == "exact" and "peft.exact" not in grid and config.peft.exact in {"head", "nothing"}:
        return f"where peft.exact is {config.peft.exact!r}. Set peft.exact = 'last_block'"
    return ""
