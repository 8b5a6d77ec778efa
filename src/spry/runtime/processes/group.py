"""Processes that torchrun started, on one machine or many: rank 0 leads, the others help."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from torch.distributed.rendezvous import rendezvous

from spry.core.errors import WorkerError
from spry.runtime.processes.crew import Crew, Joined
from spry.runtime.processes.duties import Site
from spry.runtime.processes.environment import group_rank
from spry.runtime.processes.helper import be_quiet, help_out
from spry.runtime.processes.mailbox import Mailbox, Store

MEET_SECONDS = timedelta(seconds=600)
"""How long processes wait for one another at first: each imports torch and reads the configuration before."""
LEAVE_SECONDS = 10.0
"""How long the leader, which may hold the store, waits for the others to leave."""
_LEFT = "left"


@contextmanager
def lead_group(joins: Callable[[Joined], None] = lambda joined: None) -> Generator[Crew]:
    """Lead the processes that torchrun started while the context is open."""
    store, size = _store()
    box = Mailbox(store, b"")
    crew = Crew(box=box, size=size, look=lambda: None, joins=joins)
    try:
        yield crew
    finally:
        crew.close()
        ends = time.monotonic() + LEAVE_SECONDS
        with contextlib.suppress(RuntimeError):  # the store may be gone
            while box.count(_LEFT) < size - 1 and time.monotonic() < ends:
                time.sleep(0.01)


def help_group(load: Callable[[Any], Site]) -> None:
    """Help the process that leads until it has ended; torchrun ends all if one fails."""
    box = Mailbox(_store()[0], b"")
    be_quiet()
    help_out(box, group_rank(), load)
    box.count(_LEFT, 1)


def _store() -> tuple[Store, int]:
    try:
        met: tuple[Any, int, int] = next(rendezvous("env://", timeout=MEET_SECONDS))
    except (ValueError, RuntimeError) as error:
        raise WorkerError(f"the processes that torchrun started do not find each other: {error}") from error
    store, _, size = met
    return store, size
