"""Which directions will err less, of weights or of outputs: predicted from what maps see of a probe.

For one map ``z_t = A x_t`` of shape (R, D), alone in its slice, and K = 1:

    weight directions       R D |g|^2
    activation directions   1/B^2 sum_b R |G_b|^2 |X_b|^2

with g the batch's gradient of A, ``G_b`` that of example b's loss by the outputs, ``X_b`` the inputs. The second grows
with the tokens T of a text, so there is a length below which it is the smaller one. Where neither examples nor tokens
agree this length is D; here it is measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spry.core.keys import Key
from spry.core.params import Params
from spry.estimators.activation import Choice, maps, mean_tokens
from spry.estimators.amplitudes import Amplitudes, awake, spread
from spry.estimators.observe import Seen, observe
from spry.forward.loss import Loss


@dataclass(frozen=True)
class Prediction:
    """Predicted relative squared errors of one map's gradient, for K = 1.

    Args:
        tokens: Tokens of the probe's examples, T.
        weight: Of weight directions.
        activation: Of activation directions; NaN if the probe had no gradient.
        inputs: D, the limit where nothing was measured.
    """

    tokens: float
    weight: float
    activation: float
    inputs: int

    @property
    def limit(self) -> float:
        """Tokens below which activation directions err less."""
        known = math.isfinite(self.activation) and self.activation > 0
        return self.tokens * self.weight / self.activation if known else float(self.inputs)


def predict(
    loss: Loss, params: Params, names: Sequence[str], key: Key, amplitudes: Amplitudes | None = None
) -> dict[str, Prediction]:
    """Predict the errors of both kinds of directions for some maps.

    Args:
        loss: The loss of a batch of as many examples as clients use, which may be random text; one part's tape is kept
            at a time.
        params: All trainable weights; those that are zero are nudged.
        names: The maps among them.
        key: Where the nudges' signs come from.
        amplitudes: How far tokens will be moved.

    Returns:
        A prediction for each map.
    """
    started = awake(params, key)
    gradients = {name: torch.zeros_like(params[name], dtype=torch.float64) for name in names}
    noises = dict.fromkeys(names, 0.0)
    for share, part in loss.parts():
        far = {} if part.mask is None else spread(amplitudes or {}, part.mask)
        for name, uses in observe(part, started, names).items():
            weight = share / len(uses[0].inputs)  # of an example in the batch
            noises[name] += weight**2 * len(params[name]) * _noise(uses, part.mask, far.get(name))
            for x, g in uses:
                gradients[name] += weight * (g.flatten(0, 1).mT.double() @ x.flatten(0, 1).double())
    return {
        name: Prediction(
            tokens=mean_tokens(loss),
            weight=float(params[name].numel()),
            activation=noises[name] / square if square else math.nan,
            inputs=params[name].shape[1],
        )
        for name in names
        for square in [float(gradients[name].square().sum())]
    }


def _noise(uses: Sequence[Seen], mask: Tensor | None, far: Tensor | None) -> float:
    """``sum_b |G_b|^2 |X_b|^2`` with tokens moved so far, padding left out."""
    outputs, inputs = torch.zeros(len(uses[0].inputs)), torch.zeros(len(uses[0].inputs))
    for x, g in uses:
        tokens = [t.float().square().sum(-1).cpu() for t in (g, x)]
        if mask is not None and mask.shape[1] == x.shape[1]:
            square = torch.ones(()) if far is None else far.square().cpu()
            tokens = [mask.cpu() * square * tokens[0], mask.cpu() / square * tokens[1]]
        outputs += tokens[0].sum(1)
        inputs += tokens[1].sum(1)
    return float(outputs @ inputs)


def shorter(predictions: Mapping[str, Prediction]) -> Choice:
    """Tap a map while texts are shorter than its measured limit.

    Args:
        predictions: By name; maps without one are not tapped.

    Returns:
        The choice.
    """
    limits = {name: one.limit for name, one in predictions.items()}
    return lambda params, tokens: [n for n in maps(params, tokens) if tokens < limits.get(n, 0.0)]
