"""Writing files so that a crash, a full disk or a reader never meets a half-written one."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any


def replace_file(target: Path, data: bytes) -> None:
    """Replace a file in one step: after a crash, or an OSError of a full disk, it is the old or the new one, whole."""
    partial = target.with_name(target.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    handle = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(handle)  # the rename itself must survive a power cut
    finally:
        os.close(handle)


def write_json(target: Path, content: dict[str, Any]) -> None:
    replace_file(target, (json.dumps(content, indent=2) + "\n").encode())
