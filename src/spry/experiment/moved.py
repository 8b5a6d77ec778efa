"""What forward mode moves in a run: weights, the outputs of maps, or whichever is predicted to err less."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.params import restrict
from spry.core.unit import names_of
from spry.estimators.activation import Choice, maps, mean_tokens, narrow
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
        predictions: What ``auto`` chose by, for each map, of which a kind of weights may have none; None without it.
    """

    choice: Choice | None = None
    amplitudes: Amplitudes | None = None
    predictions: Mapping[str, Prediction] | None = None

    def facts(self) -> dict[str, Any] | None:
        """Sum up what ``auto`` chose.

        Returns:
            Tokens of the probe, maps and how many of them are tapped at this length, medians over the maps of the
            predicted relative squared errors and of the length below which outputs are moved; counts of 0 where there
            are no maps, None without ``auto``.
        """
        if self.predictions is None:
            return None
        found = list(self.predictions.values())
        if not found:
            return {"maps": 0, "tapped": 0}
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
        ConfigError: If outputs shall be moved where there are none, or tied tokens be chosen by a prediction.
    """
    wanted = config.method.estimator
    if wanted == "weight" or config.method.name not in FORWARD:
        return Moved()
    if wanted == "activation" and not kind_has_maps:
        raise ConfigError(
            f"peft.kind = {config.peft.kind!r} trains no maps, so there are no outputs for activation directions to "
            "move: set method.estimator = 'weight' or 'auto'"
        )
    if wanted == "auto" and config.method.tied:
        raise ConfigError(
            "method.estimator = 'auto' predicts errors of tokens that are moved one by one: with method.tied = true, "
            "set method.estimator = 'activation'"
        )
    if not kind_has_maps:
        return Moved(predictions={})
    weights = task.init()
    body = restrict(weights, names_of(unit for unit in task.units if not unit.head))
    probe = task.probing(key.fold("probe"))
    tokens = mean_tokens(probe)
    amplitudes = None
    if config.method.amplitudes == "calibrated":
        amplitudes = calibrate(probe, weights, narrow(body, tokens), key.fold("calibrate"))
    if wanted == "activation":
        return Moved(choice=narrow, amplitudes=amplitudes)
    batch = task.probing(key.fold("predict"), examples=config.client.batch_size)
    predictions = predict(batch, weights, maps(body, tokens), key.fold("predict"), amplitudes)
    return Moved(choice=shorter(predictions), amplitudes=amplitudes, predictions=predictions)
