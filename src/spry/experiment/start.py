"""How good a model is before its first round; runs of a comparison that begin alike evaluate it once."""

from __future__ import annotations

import json
from collections.abc import Mapping

from spry.core.params import digest
from spry.experiment.build import Experiment
from spry.experiment.config import Config
from spry.federated.algorithm import ServerState
from spry.runtime.rounds import EvaluatePart, evaluate_parts
from spry.tasks.task import Metrics

_KNOWN: dict[str, Mapping[str, Metrics]] = {}
"""Of this process, by all that the outcome depends on."""


def evaluate_start(
    config: Config,
    experiment: Experiment,
    model: Mapping[str, str],
    state: ServerState,
    evaluate: EvaluatePart | None = None,
) -> Mapping[str, Metrics]:
    """Evaluate the weights before round 1 on the server's parts; nothing if that is not wanted, or later.

    Args:
        model: The base model's fingerprint.
        state: The state that the run begins, or goes on, with.
        evaluate: Who evaluates; this process, without it.
    """
    if state.round or not (config.schedule.evaluate_start and config.schedule.rounds):
        return {}
    settings = [config.model.model_dump(), config.peft.model_dump(), config.schedule.test]
    weights = digest({**experiment.task.init(), **state.weights}, 32).hex()
    key = json.dumps([dict(model), experiment.fingerprint, settings, weights])
    if key not in _KNOWN:
        _KNOWN[key] = evaluate_parts(experiment.task, state.weights, experiment.clients, evaluate)
    return _KNOWN[key]
