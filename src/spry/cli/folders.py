"""Chooses where a run goes if the user does not say."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path

from spry.core.errors import ConfigError
from spry.experiment.config import Config
from spry.experiment.folder import CONFIG, matches

RUNS = Path("runs")


def choose(name: str, runs: Mapping[str, Config]) -> Path:
    """Choose a folder that holds nothing but the given runs.

    Args:
        name: What the folder is to be called.
        runs: The runs by their place in the folder; ``.`` is the folder itself.

    Returns:
        ``runs/NAME``, or the first of ``runs/NAME-2``, ``runs/NAME-3``, ... that no other run has taken.
    """
    plain = RUNS / re.sub(r"[^\w.-]+", "-", name).strip("-")
    numbered = (plain.with_name(f"{plain.name}-{number}") for number in itertools.count(2))
    return next(
        folder
        for folder in itertools.chain([plain], numbered)
        if all(_free(folder / place, run) for place, run in runs.items())
    )


def dataset(run: Config) -> str:
    """Name a run's data set for use in a folder's name.

    Args:
        run: The configuration.

    Returns:
        The name without folders and file endings.

    Example:
        >>> dataset(Config().with_settings({"data.name": "some/where/reviews.csv.gz"}))
        'reviews'
    """
    return Path(run.data.name).name.split(".")[0] or "data"


def _free(folder: Path, run: Config) -> bool:
    if not (folder / CONFIG).is_file():
        return True
    try:
        return matches(run, folder)
    except ConfigError:
        return False
