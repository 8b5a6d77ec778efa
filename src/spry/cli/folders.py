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


def choose_folder(name: str, runs: Mapping[str, Config], *, new: bool = False) -> Path:
    """Choose a folder that holds nothing but the given runs, by their place in it; ``.`` is the folder itself.

    A ``new`` one holds not even those.

    It is ``runs/NAME``, or the first of ``runs/NAME-2``, ``runs/NAME-3``, ... that no other run has taken.
    """
    plain = RUNS / re.sub(r"[^\w.-]+", "-", name).strip("-")
    numbered = (plain.with_name(f"{plain.name}-{number}") for number in itertools.count(2))
    return next(
        folder
        for folder in itertools.chain([plain], numbered)
        if (not folder.exists() if new else all(_free(folder / place, run) for place, run in runs.items()))
    )


def run_folder(run: Config, *, new: bool = False) -> Path:
    """Choose a folder for a run by itself: that of the same run if it is there, unless a ``new`` one is wanted."""
    name = f"{short_name(run)}-{run.method.name}-s{run.seed}"
    return choose_folder(name, {".": run}, new=new)


def short_name(run: Config) -> str:
    """Name a run's data set without folders and file endings.

    >>> short_name(Config().with_settings({"data.name": "some/where/reviews.csv.gz"}))
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
