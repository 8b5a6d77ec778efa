"""Who runs the clients of a run: this process, or nodes elsewhere, which some engine reaches."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from spry.core.errors import ConfigError, TrainingError
from spry.core.params import Params
from spry.experiment.build import USUALLY_ASKED, Experiment
from spry.experiment.config import Config
from spry.experiment.enrolment import enrol
from spry.experiment.fingerprint import Fingerprint
from spry.experiment.given import Given
from spry.runtime.courier import Courier
from spry.runtime.executor import Executor
from spry.runtime.head_sums import AskForSums
from spry.runtime.remote import Remote
from spry.runtime.roster import DealtNodes, Elsewhere, OwnNodes, wait_for_nodes

USUAL_NODES = 2
"""Nodes that a deployment waits for where nothing is said."""
NOBODY: Fingerprint = {}


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Who runs the clients.

    Args:
        experiment: The run's parts, with clients as this runtime knows them.
        executor: Who runs the clients of a round; None leaves it to the run's own processes.
        ask: Who asks clients for sums, where they are elsewhere.
        clients: How many there are.
        notes: For the user before the first round.
    """

    experiment: Experiment
    clients: int
    executor: Executor | None = None
    ask: AskForSums | None = None
    notes: tuple[str, ...] = ()

    def tell(self, head: Params) -> None:
        """Let clients be told of the head that training begins with, where they could not know it."""
        if isinstance(self.executor, Remote):
            self.executor.start = head


@contextmanager
def open_runtime(
    config: Config,
    experiment: Experiment,
    given: Given,
    courier: Courier | None,
    begun_with: Fingerprint = NOBODY,
) -> Generator[Runtime]:
    """Open what ``runtime.name`` asks for, or go over a courier that is there; it is closed with the context.

    Args:
        begun_with: Who was enrolled when the run began, if it goes on; see ``enrol``.
    """
    if courier is not None:
        yield _remote(config, experiment, courier, config.runtime.nodes or USUAL_NODES, begun_with)
    elif config.runtime.name == "simulate":
        number = len(experiment.clients.clients)
        yield Runtime(experiment=experiment, clients=number)
    else:
        if config.runtime.workers > 1:
            raise ConfigError(
                f"runtime.workers is {config.runtime.workers}, and clients are on Flower's nodes (runtime.name). Set "
                "runtime.workers=1"
            )
        if given.names:
            raise ConfigError(
                f"runtime.name is 'flower', and {', '.join(given.names)} came as objects, which other processes do not "
                "have. Name a file or folder, or set runtime.name=simulate"
            )
        with _engine(config, experiment) as engine:
            yield engine


@contextmanager
def _engine(config: Config, experiment: Experiment) -> Generator[Runtime]:
    from spry.experiment.flower_folder import BRIDGE, write_app
    from spry.runtime.flower.engine import flower_engine

    if config.runtime.data == "nodes":
        raise ConfigError(
            "runtime.data is 'nodes', and the nodes of an engine on one machine have no files of their own. Deploy the "
            "app that spry flower init writes, or set runtime.data=dealt"
        )
    clients = len(experiment.clients.clients)
    nodes = config.runtime.nodes or clients
    # The engine may lose what a node keeps of one client while it plays another.
    if config.privacy.secure_aggregation and nodes < clients:
        raise ConfigError(
            f"runtime.nodes is {nodes}, and under privacy.secure_aggregation each of the {clients} clients needs a "
            "node that keeps its secrets. Leave runtime.nodes unset"
        )
    cores = min(_cores(), experiment.clients_per_round, nodes)
    with tempfile.TemporaryDirectory(prefix="spry-app-") as folder:
        threads = torch.get_num_threads()
        shared = config.with_settings({"runtime.threads": threads, **_noise(experiment)})
        app = write_app(Path(folder) / "app", shared, server=BRIDGE)
        with flower_engine(
            app, nodes=nodes, cores=cores, seconds=config.runtime.wait, threads=threads
        ) as courier:
            yield _remote(config, experiment, courier, nodes, NOBODY)


def _noise(experiment: Experiment) -> dict[str, float]:
    """Tell nodes what noise follows from the budget, so that none has to find it again."""
    spending = experiment.parts.spending
    return {} if spending is None else {"privacy.noise": spending.noise}


def _cores() -> int:
    """Cores that this process may use, where the system tells."""
    known = getattr(os, "sched_getaffinity", None)
    return len(known(0)) if known is not None else os.cpu_count() or 1


def _remote(
    config: Config, experiment: Experiment, courier: Courier, number: int, begun_with: Fingerprint
) -> Runtime:
    wait = config.runtime.wait
    nodes = wait_for_nodes(courier, number, wait)
    if config.runtime.data == "dealt":
        remote = Remote(courier, DealtNodes(nodes).address, wait)
        clients = len(experiment.clients.clients)
        return Runtime(experiment=experiment, executor=remote, clients=clients, ask=remote.ask)
    if config.schedule.local_tuning:
        raise ConfigError(
            "schedule.local_tuning takes the clients' data, which lies with them (runtime.data = 'nodes'). Set "
            "schedule.local_tuning=0"
        )
    return _with_own_data(config, experiment, OwnNodes(courier, wait), begun_with)


def _with_own_data(config: Config, experiment: Experiment, own: OwnNodes, begun_with: Fingerprint) -> Runtime:
    sizes, wait = own.sizes(), config.runtime.wait
    told = tuple(f"node {node} takes no part: {why}." for node, why in own.refused.items())
    if not any(sizes.values()):
        raise TrainingError(f"no node can take part. {' '.join(told) or 'None has examples.'}")
    before = experiment.clients
    clients = Elsewhere(
        clients=(),
        test=before.test,
        validation=before.validation,
        batch_size=before.batch_size,
        epochs=before.epochs,
        steps=before.steps,
        facts=before.facts,
        sizes=own.sizes,
    )
    asked = config.schedule.clients_per_round or min(USUALLY_ASKED, len(clients.trainable()))
    remote = Remote(own.courier, own.address, wait)
    counts = replace(experiment, schedule={**experiment.schedule, "clients_per_round": asked})
    parts = enrol(config, counts, clients, begun_with)
    return Runtime(experiment=parts, executor=remote, clients=len(sizes), ask=remote.ask, notes=told)
