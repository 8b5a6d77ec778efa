"""The grid of settings that is tried for a method, and whether what was best lies at its edge."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from spry.compare import fairness
from spry.core.errors import ConfigError
from spry.experiment.config import Config, flatten
from spry.federated.traits import STEPS, Steps

STEP_SIZE = "lr"
"""In a grid: the step size of the clients where they step, else of the server."""

Point = Mapping[str, Any]
"""One point of a grid: settings by dotted key."""


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
