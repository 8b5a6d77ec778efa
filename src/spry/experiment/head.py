"""The round of sums before round 1, from which a head in closed form follows; runs that begin alike take it once."""

from __future__ import annotations

import json
from collections.abc import Mapping

from spry.core.params import digest
from spry.experiment.build import Experiment
from spry.experiment.config import Config
from spry.runtime.head_start import HeadStart, closed_form_head

_KNOWN: dict[str, HeadStart] = {}
"""Of this process, by all that the outcome depends on: what each took is what it took once."""


def start_head(config: Config, experiment: Experiment, model: Mapping[str, str]) -> HeadStart | None:
    """Take the sums and solve; None where the head starts as the model has it.

    Args:
        model: The base model's fingerprint.
    """
    if not experiment.closed_form:
        return None
    tell = config.server.send == "slopes"
    tables = (config.model, config.peft, config.head, config.data)
    settings = [*(table.model_dump() for table in tables), config.seed, config.client.batch_size, tell]
    micro, weights = config.client.micro_batch_size, digest(experiment.task.init(), 32).hex()
    place = json.dumps([dict(model), experiment.fingerprint, settings, micro, weights])
    if place not in _KNOWN:
        _KNOWN[place] = closed_form_head(
            experiment.task,
            experiment.clients,
            key=experiment.key,
            features=config.head.features,
            number=config.head.clients,
            tell=tell,
        )
    return _KNOWN[place]
