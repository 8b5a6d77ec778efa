"""Archives runs of a comparison whose tuned settings no longer match the current grid."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from spry.experiment.config import Config, read_record
from spry.experiment.folder import CONFIG, matches

ARCHIVE = "archive"


def archive_stale_run(config: Config, tuned: Mapping[str, Any], folder: Path, place: str) -> None:
    """Move a run to ``archive`` if it differs from the wanted one in tuned settings only (dotted keys)."""
    old = folder / place
    if not (old / CONFIG).is_file() or matches(config, old):
        return
    if read_record(old / CONFIG).with_settings(tuned).is_same_run(config):
        target = folder / ARCHIVE / place
        numbered = (target.with_name(f"{target.name}-{number}") for number in count(1))
        target = next(candidate for candidate in numbered if not candidate.exists())
        target.parent.mkdir(parents=True, exist_ok=True)
        old.rename(target)
