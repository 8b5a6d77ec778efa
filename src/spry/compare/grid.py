"""The grid of settings that is tried for a method, and whether the best point lies at its edge."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from spry.compare.fairness import METHOD_SETTINGS
from spry.core.errors import ConfigError
from spry.experiment.config import Config, flatten

STEP_SIZE = "lr"
"""In a grid: the step size of the clients where they step, else of the server."""

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
        if key in _without_effect(own):
            raise ConfigError(
                f"{key} changes nothing for {name}, whose {key.partition('.')[0]} takes no step. "
                f"Write lr, which is the step size of whoever steps, or give {name} a grid in tune.methods.{name}"
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


def _without_effect(config: Config) -> list[str]:
    resting = [] if config.method.options.stepper == "client" else ["client"]
    resting += [] if config.method.info.server else ["server"]
    return [f"{side}.{key}" for side in resting for key in ("lr", "optimizer")]
