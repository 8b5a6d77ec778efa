"""One writer per folder: a lock that the operating system takes back when its process ends, however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from spry.core.errors import CheckpointError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

LOCK_FILE = ".lock"


@contextmanager
def exclusive(folder: Path) -> Generator[str | None]:
    """Keep other processes from writing a folder for as long as the context is open.

    Yields:
        None; on a file system that cannot lock, a sentence that says so.

    Raises:
        CheckpointError: If another process writes the folder, or this one does already.
    """
    with ExitStack() as held:
        yield _hold(folder, held)


@contextmanager
def claimed(folder: Path) -> Generator[None]:
    """Make and lock a folder; where nothing was written into it in the end, it is taken away again."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder):
        try:
            yield
        finally:
            if made and {place.name for place in folder.iterdir()} <= {LOCK_FILE}:
                with contextlib.suppress(OSError):  # another process has come
                    (folder / LOCK_FILE).unlink(missing_ok=True)
                    for place in made:
                        place.rmdir()


def check_unlocked(folder: Path) -> None:
    """Refuse (CheckpointError) a folder that another process writes, before minutes go into loading a model."""
    with exclusive(folder):
        pass


def _hold(folder: Path, held: ExitStack) -> str | None:
    try:
        file = held.enter_context((folder / LOCK_FILE).open("a+", encoding="utf-8"))
        _flock(file)
    except BlockingIOError:
        raise CheckpointError(
            f"{folder} is written by {_holder(folder)} now. Wait until it ends or stop it, or choose another folder."
        ) from None
    except OSError as error:  # a network file system without locks, or a folder of somebody else's
        return f"{folder} cannot be locked ({error.strerror or error}): see to it that no other process writes it."
    _sign(file, {"pid": os.getpid(), "host": socket.gethostname()})
    held.callback(_sign, file, {})
    return None


def _flock(file: IO[str]) -> None:
    if fcntl is None:
        raise OSError("this system has no flock")
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sign(file: IO[str], holder: dict[str, object]) -> None:
    with contextlib.suppress(OSError):  # a full disk: the lock holds all the same, without a name
        file.truncate(0)
        file.write(json.dumps(holder) + "\n")
        file.flush()


def _holder(folder: Path) -> str:
    try:
        known = json.loads((folder / LOCK_FILE).read_text(encoding="utf-8"))
        return f"process {known['pid']} on {known['host']}"
    except (OSError, ValueError, KeyError):
        return "another process"
