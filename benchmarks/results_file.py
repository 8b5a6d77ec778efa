"""A file of results that grows run by run, and that several processes may share."""

from __future__ import annotations

import fcntl
import json
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spry.experiment.atomic import write_json


def read(file: Path) -> dict[str, list[Any]]:
    """Read the trials and runs; none of a file that is not there yet."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"trials": [], "runs": []}


def known(file: Path, kind: str, place: Mapping[str, Any]) -> bool:
    """Whether an entry with these values is there."""
    return any(all(one[key] == value for key, value in place.items()) for one in read(file)[kind])


def of_whole_seeds(runs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Leave out seeds with fewer runs than others, so that means over seeds can be compared."""
    counts = Counter(run["seed"] for run in runs)
    return [run for run in runs if counts[run["seed"]] == max(counts.values())]


def add(file: Path, kind: str, found: Mapping[str, Any]) -> None:
    """Add an entry."""
    with locked(file):
        results = read(file)
        results[kind].append(found)
        write_json(file, results)


@contextmanager
def locked(file: Path) -> Generator[None]:
    """One process at a time adds what it found."""
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
