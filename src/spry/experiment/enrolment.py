"""Privacy is counted for the clients that are enrolled: where they are nodes, those that came before round 1."""

from __future__ import annotations

from dataclasses import replace

from spry.experiment.build import DOWNLINKS, Experiment
from spry.experiment.config import Config
from spry.experiment.fingerprint import Fingerprint
from spry.experiment.method import private_algorithm
from spry.experiment.privacy_checks import check_noise_is_agreed
from spry.runtime.roster import Elsewhere
from spry.runtime.sampling import sample


def enrol(config: Config, experiment: Experiment, clients: Elsewhere, begun_with: Fingerprint) -> Experiment:
    """Make a run's parts anew for the nodes that are there; with noise no others join, since their number counts.

    Args:
        experiment: Made before anybody knew who would come, but for ``schedule``.
        begun_with: What ``enrolled`` gave when the run began, if it goes on.

    Raises:
        ConfigError: If there are fewer clients than a round asks.
        PrivacyError: If, with so many, the rounds cost more than the budget.
    """
    if config.privacy.mechanism == "none":
        return replace(experiment, clients=clients)
    check_noise_is_agreed(config)
    there = {c: number for c, number in clients.sizes().items() if not begun_with or _name(c) in begun_with}
    clients = replace(clients, sizes=lambda: there)
    asked, key = experiment.clients_per_round, experiment.key
    sample(clients.trainable(), asked, 0, key)  # refused now, not in the first round
    algorithm, parts = private_algorithm(
        config,
        experiment.task.units,
        clients.trainable(),
        asked,
        key,
        head=experiment.task.kind.head_fit if experiment.closed_form else None,
    )
    downlink = DOWNLINKS[config.server.send](algorithm)
    return replace(experiment, clients=clients, algorithm=algorithm, downlink=downlink, parts=parts)


def enrolled(config: Config, experiment: Experiment) -> Fingerprint:
    """Who takes part in a run that only goes on with the same clients; nothing of others."""
    if config.privacy.mechanism == "none" or not isinstance(experiment.clients, Elsewhere):
        return {}
    return {_name(client): "a node" for client in experiment.clients.trainable()}


def _name(client: int) -> str:
    return f"client {client}"
