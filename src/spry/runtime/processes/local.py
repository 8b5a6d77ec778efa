"""Helpers on this machine, started by the leader and ended with it."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from torch.multiprocessing import get_context

from spry.core.errors import WorkerError
from spry.runtime.processes.crew import Crew, Joined
from spry.runtime.processes.duties import Site
from spry.runtime.processes.helper import be_quiet, help_out
from spry.runtime.processes.mailbox import Mailbox, connect_here, open_here

GRACE_SECONDS = 3.0
"""What helpers that are told of the end may take before they are killed; they have nothing to lose."""
SECRET_BYTES = 32

LoadSite = Callable[[Any], Site]


@contextmanager
def helpers_here(
    size: int, load: LoadSite, joins: Callable[[Joined], None] = lambda joined: None
) -> Generator[Crew]:
    """Start ``size - 1`` processes that help this one while the context is open.

    Args:
        load: Makes a helper's site; it travels to the helper, with all that it holds.
        joins: Is told of each helper that has loaded model and data.
    """
    store, port = open_here()
    secret = secrets.token_bytes(SECRET_BYTES)
    context, started = (
        get_context("spawn"),
        list[Any](),
    )  # a fork would take over threads that wait for others
    crew = Crew(box=Mailbox(store, secret), size=size, look=lambda: _look(started, crew), joins=joins)
    try:
        for rank in crew.helpers:
            started.append(context.Process(target=_help, args=(port, secret, rank, load), daemon=True))
            started[-1].start()
        yield crew
    finally:
        crew.close()
        _end([process for process in started if process.pid is not None])


def _end(started: list[Any]) -> None:
    ends = time.monotonic() + GRACE_SECONDS
    for process in started:
        process.join(max(0.0, ends - time.monotonic()))
        process.kill()
        process.join()


def _help(port: int, secret: bytes, rank: int, load: LoadSite) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # the leader gets them, too, and ends its helpers
        signal.signal(number, signal.SIG_IGN)
    os.environ["LOCAL_RANK"] = str(rank)  # as torchrun says it, for whoever chooses a GPU
    be_quiet()
    try:
        help_out(Mailbox(connect_here(port), secret), rank, load)
    except Exception as error:  # the leader tells it
        raise SystemExit(1) from error


def _look(started: list[Any], crew: Crew) -> None:
    for rank, process in enumerate(started, start=1):
        if process.exitcode is not None:
            crew.check_failed(rank)
            raise WorkerError(
                f"worker {rank} (process {process.pid}) ended {_how(process.exitcode)}. What is done is kept."
            )


def _how(code: int) -> str:
    if code == -signal.SIGKILL:
        return "by SIGKILL, as the system ends what is out of memory"
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
