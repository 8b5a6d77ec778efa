"""The round of sums before round 1, from which a head in closed form follows; runs that begin alike take it once."""

from __future__ import annotations

import json
from collections.abc import Mapping

from spry.core.params import digest
from spry.experiment.build import Experiment
from spry.experiment.config import Config
from spry.runtime.head_start import HeadStart, closed_form_head
from spry.runtime.head_sums import AskForSums

_KNOWN: dict[str, HeadStart] = {}
"""Of this process, by all that the outcome depends on: what each took is what it took once."""


def start_head(
    config: Config, experiment: Experiment, model: Mapping[str, str], ask: AskForSums | None = None
) -> HeadStart | None:
    """Take the sums and solve; None where the head starts as the model has it.

    Args:
        model: The base model's fingerprint.
        ask: Who puts the question to clients elsewhere, or in other processes; nothing of it is remembered.
    """
    if not experiment.closed_form:
        return None
    tell = config.server.send == "slopes"
    if ask is not None:
        return _take(config, experiment, tell, ask)
    settings = [
        *(table.model_dump() for table in (config.model, config.head, config.data)),
        config.seed,
        repr(experiment.task.kind),
        tell,
    ]
    sizes = [config.client.batch_size, config.client.micro_batch_size]
    place = json.dumps([dict(model), experiment.fingerprint, settings, sizes, _what_is_read(experiment)])
    if experiment.parts.head is not None:  # with a secret seed no two are alike
        return _take(config, experiment, tell)
    if place not in _KNOWN:
        _KNOWN[place] = _take(config, experiment, tell)
    return _KNOWN[place]


def _take(config: Config, experiment: Experiment, tell: bool, ask: AskForSums | None = None) -> HeadStart:
    return closed_form_head(
        experiment.task,
        experiment.clients,
        key=experiment.key,
        features=config.head.features,
        number=config.head.clients,
        tell=tell,
        ask=ask,
        solver=experiment.parts.head,
    )


def _what_is_read(experiment: Experiment) -> str:
    """A hash of some features: adapters that begin at zero change nothing, whatever they are, and share the sums."""
    clients, task = experiment.clients, experiment.task
    batch = next(iter(clients.training_once(clients.trainable()[0])))
    return digest({"features": task.linear_head().read(task.init(), batch)}, 32).hex()
