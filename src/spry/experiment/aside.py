"""Makes room in a comparison's folder when another grid leads to other runs than those that are there."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from spry.experiment.config import Config, load
from spry.experiment.folder import CONFIG, matches

FOLDER = "set_aside"


def make_room(config: Config, tuned: Mapping[str, Any], folder: Path, place: str) -> None:
    """Move a run away whose configuration differs from the wanted one in what is tuned, and in nothing else.

    Args:
        config: The wanted run.
        tuned: The settings that its grid chose, by dotted key.
        folder: The comparison's folder; the old run goes to ``set_aside`` in it.
        place: The run's folder within it.
    """
    old = folder / place
    if not (old / CONFIG).is_file() or matches(config, old):
        return
    if load(old / CONFIG).with_settings(tuned).alone() == config.alone():
        target = folder / FOLDER / place
        free = (target.with_name(f"{target.name}-{number}") for number in count(1))
        target = next(candidate for candidate in free if not candidate.exists())
        target.parent.mkdir(parents=True, exist_ok=True)
        old.rename(target)
