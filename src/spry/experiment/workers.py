"""The processes that a run's work is dealt over: started here, or by torchrun."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from spry.core.errors import ConfigError
from spry.experiment.build import Experiment, build
from spry.experiment.config import Config
from spry.experiment.folder import read_meta
from spry.experiment.given import NOTHING, Given
from spry.runtime.executor import Executor
from spry.runtime.head_sums import AskForSums, ClientSums
from spry.runtime.local_tuning import ShareTuning
from spry.runtime.processes.crew import Crew, Joined
from spry.runtime.processes.dealing import DealtEvaluation, DealtSums, DealtTuning, Processes
from spry.runtime.processes.duties import Site
from spry.runtime.processes.environment import group_rank, group_size, local_rank
from spry.runtime.processes.group import help_group, lead_group
from spry.runtime.processes.local import helpers_here
from spry.runtime.rounds import EvaluatePart


class Told(NamedTuple):
    """What the leader tells its helpers of the run."""

    config: Config
    threads: int


@dataclass(frozen=True)
class Load:
    """Makes a helper's site from what the leader tells.

    Args:
        given: Objects that stand in for the model and the data that the configuration names.
    """

    given: Given = NOTHING

    def __call__(self, told: Told) -> Site:
        torch.set_num_threads(told.threads)
        _choose_gpu(told.config)
        experiment = build(told.config, self.given)
        return Site(
            algorithm=experiment.algorithm,
            downlink=experiment.downlink,
            task=experiment.task,
            clients=experiment.clients,
            key=experiment.key,
            personalized=told.config.schedule.personalized,
            device=told.config.model.device,
        )


@dataclass
class Workers:
    """Who does a run's work; without a crew this process alone.

    Args:
        threads: Of each process.
        joined: The helpers that have come, until somebody asks.
    """

    crew: Crew | None
    size: int
    threads: int
    joined: list[Joined]

    @property
    def executor(self) -> Executor | None:
        return None if self.crew is None else Processes(self.crew)

    def evaluation(self, experiment: Experiment) -> EvaluatePart | None:
        return None if self.crew is None else DealtEvaluation(crew=self.crew, task=experiment.task)

    def sums(self, experiment: Experiment) -> AskForSums | None:
        """Who asks for the sums of a head; those of a private one have noise, of which only the leader has the key."""
        if self.crew is None or experiment.parts.head is not None:
            return None
        return DealtSums(crew=self.crew, sums=ClientSums(experiment.task, experiment.clients))

    @property
    def tuning(self) -> ShareTuning | None:
        return None if self.crew is None else DealtTuning(self.crew)

    def notes(self) -> list[str]:
        """What a user should know of them before the first round."""
        if self.size == 1:
            return []
        return [
            f"{self.size} processes with {_threads(self.threads)} each run the clients (runtime.workers)."
        ]

    def newcomers(self) -> list[Joined]:
        """The helpers that have come since this was asked last."""
        come = self.joined[:]
        self.joined.clear()
        return come

    def changed_threads(self, folder: Path) -> list[str]:
        """Say, where a run goes on with other threads than it began with, that its bits may differ."""
        began = recorded_threads(folder)
        if began is None or began == self.threads:
            return []
        return [
            f"The run began with {_threads(began)} a process, and has {self.threads} now: the last bits of weights may "
            f"differ from those of an unbroken run. Set runtime.threads={began} to keep them."
        ]


@contextmanager
def at_work(config: Config, folder: Path, given: Given) -> Generator[Workers]:
    """Start a run's processes, or find those that torchrun started, and end them when the context is left."""
    if group_rank():
        raise ConfigError(
            "torchrun has started this process to help another one, which the command does: torchrun ... -m spry run. "
            "In Python, set runtime.workers instead"
        )
    size = group_size() if group_size() > 1 else config.runtime.workers
    before = torch.get_num_threads()
    threads = _chosen_threads(config, folder, size)
    joined: list[Joined] = []
    torch.set_num_threads(threads)
    try:
        if size == 1:
            yield Workers(crew=None, size=1, threads=threads, joined=joined)
            return
        _choose_gpu(config)
        dealt = group_size() > 1
        with lead_group(joined.append) if dealt else helpers_here(size, Load(given), joined.append) as crew:
            crew.begin(Told(config, threads))
            yield Workers(crew=crew, size=size, threads=threads, joined=joined)
    finally:
        torch.set_num_threads(before)


def help_leader() -> None:
    """Help the run that the first of torchrun's processes leads, until it has ended."""
    help_group(Load())


def recorded_threads(folder: Path) -> int | None:
    """On how many threads a run began; None if it has not, or nothing is known."""
    machine: dict[str, Any] = read_meta(folder).get("machine", {})
    return machine.get("threads")


def _choose_gpu(config: Config) -> None:
    """Let ``cuda`` without a number mean a GPU of each process's own; they take turns if there are fewer."""
    if config.model.device == "cuda" and torch.cuda.is_available():
        torch.cuda.set_device(local_rank() % torch.cuda.device_count())


def _chosen_threads(config: Config, folder: Path, size: int) -> int:
    """Those that are set, or those that the run began with if there are as many here, or a share of all."""
    if config.runtime.threads is not None:
        return config.runtime.threads
    recorded = recorded_threads(folder)
    if recorded is not None and recorded <= _cores():
        return recorded
    here = torch.get_num_threads()
    return here if group_size() > 1 else max(1, here // size)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"
