"""What forward mode moves in a run: weights, the outputs of maps, or whichever is predicted to err less."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.params import restrict
from spry.core.unit import names_of
from spry.estimators.activation import Choice, maps, mean_tokens
from spry.estimators.amplitudes import Amplitudes, calibrate
from spry.estimators.predict import Prediction, predict, shorter
from spry.experiment.config import Config
from spry.federated.methods import FORWARD
from spry.tasks.classification import ClassificationTask


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What is moved, and what was measured to choose it.

    Args:
        choice: Which maps are moved at their outputs; None for none.
        amplitudes: How far the tokens of such outputs are moved; all alike without it.
        predictions: What ``auto`` chose by, for each map.
    """

    choice: Choice | None = None
    amplitudes: Amplitudes | None = None
    predictions: Mapping[str, Prediction] = field(default_factory=dict)

    def facts(self) -> dict[str, Any] | None:
        """Sum up what ``auto`` chose.

        Returns:
            Tokens of the probe, maps and how many of them are tapped at this length, medians over the maps of the
            predicted relative squared errors and of the length below which outputs are moved; None without ``auto``.
        """
        if not self.predictions:
            return None
        found = list(self.predictions.values())
        return {
            "tokens": found[0].tokens,
            "maps": len(found),
            "tapped": sum(one.tokens < one.limit for one in found),
            "error_of_weight_directions": median(one.weight for one in found),
            "error_of_activation_directions": median(one.activation for one in found),
            "limit_in_tokens": median(one.limit for one in found),
        }


def moved(config: Config, task: ClassificationTask, kind_has_maps: bool, key: Key) -> Moved:
    """Choose what forward mode moves, measuring on random text with the initial weights.

    Every client that knows the configuration finds the same.

    Args:
        config: The configuration.
        task: Owner of the model.
        kind_has_maps: Whether the kind of PEFT weights has outputs to move.
        key: The run's key.

    Returns:
        What is moved.

    Raises:
        ConfigError: If outputs shall be moved where there are none.
    """
    wanted = config.method.estimator
    if wanted == "weight" or config.method.name not in FORWARD:
        return Moved()
    if wanted == "activation" and not kind_has_maps:
        raise ConfigError(
            f"peft.kind = {config.peft.kind!r} trains no maps, so there are no outputs for activation directions to "
            "move: set method.estimator = 'weight' or 'auto'"
        )
    if not kind_has_maps:
        return Moved()
    weights = task.init()
    body = restrict(weights, names_of(unit for unit in task.units if not unit.head))
    probe = task.loss(task.probe(key.fold("probe")), key)
    names = maps(body, mean_tokens(probe))
    amplitudes = None
    if config.method.amplitudes == "calibrated":
        amplitudes = calibrate(probe, weights, names, key.fold("calibrate"))
    if wanted == "activation":
        return Moved(choice=maps, amplitudes=amplitudes)
    batch = task.loss(task.probe(key.fold("predict"), examples=config.client.batch_size), key)
    predictions = predict(batch, weights, names, key.fold("predict"), amplitudes)
    return Moved(choice=shorter(predictions), amplitudes=amplitudes, predictions=predictions)
