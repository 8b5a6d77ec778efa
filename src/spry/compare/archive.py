"""Archives runs of a comparison whose tuned settings no longer match the current grid."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from spry.experiment.config import Config, read_record
from spry.experiment.folder import CONFIG, LOOSE, matches

ARCHIVE = "archive"


def archive_stale_run(config: Config, tuned: Mapping[str, Any], folder: Path, place: str) -> None:
    """Move a run to ``archive`` if it differs from the wanted one in tuned settings (dotted keys).

    It may differ in loose settings as well. A run that differs in these alone goes on, and stays.
    """
    old = folder / place
    if not (old / CONFIG).is_file() or matches(config, old):
        return
    before = read_record(old / CONFIG)
    loose = {key: value for key, value in config.flat().items() if key in LOOSE}
    as_loose = before.with_settings(loose)
    goes_on = as_loose.is_same_run(config) and not before.is_same_run(config)
    if not goes_on and as_loose.with_settings(tuned).is_same_run(config):
        target = folder / ARCHIVE / place
        numbered = (target.with_name(f"{target.name}-{number}") for number in count(1))
        target = next(candidate for candidate in numbered if not candidate.exists())
        target.parent.mkdir(parents=True, exist_ok=True)
        old.rename(target)
