"""A helper's side: loads the run that the leader tells of, and does pieces of its jobs until there are no more."""

from __future__ import annotations

import logging
import os
import socket
import time
import warnings
from collections.abc import Callable
from typing import Any

import psutil
import torch

from spry.runtime.processes.crew import BROKEN, END, JOINED, LEADER, RUN, Joined
from spry.runtime.processes.duties import Site
from spry.runtime.processes.jobs import Job, answer, attempt, is_over, latest, portable, take_piece
from spry.runtime.processes.mailbox import Mailbox
from spry.runtime.processes.pulse import Listener, Pulse

IDLE_SECONDS = 0.005
"""Between two looks for a job."""
ABANDONED = 1
"""Exit status of a helper whose leader is gone."""


def help_out(box: Mailbox, rank: int, load: Callable[[Any], Site]) -> None:
    """Help the leader until it has ended.

    Args:
        load: Makes the site from what the leader tells of a run.

    Raises:
        WorkerError: If the leader is silent.
    """
    pulse = Pulse(box, rank, _leave)
    try:
        _serve(box, rank, load)
    except Exception as error:
        box.put(f"{BROKEN}/{rank}", portable(error))
        raise
    finally:
        pulse.stop()


def be_quiet() -> None:
    """Leave warnings to the leader, which loads the same model and data, and says the same."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


def _serve(box: Mailbox, rank: int, load: Callable[[Any], Site]) -> None:
    listener, seen = Listener(box, range(LEADER, LEADER + 1)), 0
    while not box.has(RUN):
        if box.has(END):
            return
        listener.check()
        time.sleep(IDLE_SECONDS)
    site = load(box.read(RUN))
    box.put(f"{JOINED}/{rank}", _introduce(rank))
    while not box.has(END):
        job = latest(box, seen)
        if job is None:
            listener.check()
            time.sleep(IDLE_SECONDS)
        else:
            seen = job.number
            _help(box, rank, job, site)


def _help(box: Mailbox, rank: int, job: Job, site: Site) -> None:
    work, number = job.duty.at(site), 0
    while not is_over(box, job) and (piece := take_piece(box, job)) is not None:
        answer(box, job, rank, number, attempt(work, piece))
        number += 1


def _introduce(rank: int) -> Joined:
    memory = psutil.Process().memory_full_info()
    return Joined(
        rank=rank,
        pid=os.getpid(),
        host=socket.gethostname(),
        threads=torch.get_num_threads(),
        own_bytes=memory.uss,
        shared_bytes=memory.rss - memory.uss,
    )


def _leave() -> None:
    """End at once: nobody is left who could use what is computed here."""
    os._exit(ABANDONED)
