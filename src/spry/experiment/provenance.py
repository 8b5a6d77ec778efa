"""Where a number comes from: date, versions, machine, commit and command, written beside every result."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch

PACKAGES = ("spry-fl", "torch", "transformers", "peft", "bitsandbytes", "numpy")


def provenance() -> dict[str, Any]:
    """Describe this process: date (UTC), Python, versions, machine, command, and the commit of Spry's sources.

    Versions of packages that are not installed are null, and so is the commit where the sources are no checkout.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": versions(),
        "machine": {
            "platform": platform.platform(),
            "cpu": _cpu(),
            "cpus": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
            **_gpu(),
        },
        "commit": _commit(),
        "command": [Path(sys.argv[0]).name, *map(_portable, sys.argv[1:])],
    }


def versions() -> dict[str, str | None]:
    """List the versions of the packages that numbers depend on; null where one is not installed."""
    return {name: _version(name) for name in PACKAGES}


def _portable(argument: str) -> str:
    """Leave the folders of this machine out: ``data.name=/a/b/c.tsv`` becomes ``data.name=c.tsv``."""
    return re.sub(r"(^|=)/(?:.*/)?", r"\1", argument)


def _cpu() -> str | None:
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or None


def _gpu() -> dict[str, Any]:
    if not torch.cuda.is_available():
        return {"gpu": None}
    properties = torch.cuda.get_device_properties(0)
    size = round(properties.total_memory / 1e9, 1)
    return {"gpu": properties.name, "gpu_memory_gb": size, "cuda": torch.version.cuda}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """An installed copy may lie in somebody else's checkout, so git must know this very file."""
    here = Path(__file__)
    return _git("rev-parse", "--short", "HEAD") if _git("ls-files", here.name) else None


def _git(*command: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *command], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
