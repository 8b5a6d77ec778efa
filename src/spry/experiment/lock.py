"""One writer per folder: a lock that the operating system takes back when its process ends, however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from spry.core.errors import CheckpointError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

LOCK_FILE = ".lock"
CLOCK_SECONDS = 2.0
"""What a process's beginning may differ by where the clock was set meanwhile."""


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
    _sign(file, {"pid": os.getpid(), "host": socket.gethostname(), "began": psutil.Process().create_time()})
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
    holder = read_holder(folder)
    return "another process" if holder is None else f"process {holder.pid} on {holder.host}"


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that signed a folder's lock last, and did not take its name away.

    Args:
        began: When it began, in seconds since 1970; numbers of processes are used again.
    """

    pid: int
    host: str
    began: float | None = None

    @property
    def alive(self) -> bool | None:
        """Whether it runs; None if it is on another machine, or an earlier version signed.

        The lock itself is not tried: whoever looked on would keep a run from beginning for that moment.
        """
        if self.host != socket.gethostname() or self.began is None:
            return None
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.began) < CLOCK_SECONDS
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def read_holder(folder: Path) -> Holder | None:
    """Read who signed a folder's lock; None if its last writer ended in order, or there is none."""
    try:
        known: dict[str, Any] = json.loads((folder / LOCK_FILE).read_text(encoding="utf-8"))
        return Holder(pid=known["pid"], host=known["host"], began=known.get("began"))
    except (OSError, ValueError, KeyError):
        return None
