"""Which directions will err less, of weights or of outputs: predicted from energies measured on a probe.

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
from spry.forward.loss import Loss
from spry.forward.tap import tapped


@dataclass(frozen=True)
class Prediction:
    """Predicted relative squared errors of one map's gradient, for K = 1.

    Args:
        tokens: Tokens of the probe's examples, T.
        weight: Of weight directions.
        activation: Of activation directions; NaN if the probe had no slopes.
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
    loss: Loss,
    params: Params,
    names: Sequence[str],
    key: Key,
    amplitudes: Amplitudes | None = None,
    count: int = 4,
) -> dict[str, Prediction]:
    """Predict the errors of both kinds of directions for some maps, in forward mode.

    Random signs v and u give ``E <g, v>^2 = |g|^2``, ``E s_b^2 = |G_b|^2`` and ``E |V_b|^2 = R |X_b|^2``. Each map
    takes two passes of ``count`` directions; with 4, a limit is off by a factor of about 2 either way.

    Args:
        loss: The loss of a batch of as many examples as clients use, which may be random text.
        params: All trainable weights.
        names: The maps among them.
        key: Where signs come from.
        amplitudes: How far tokens will be moved.
        count: Directions the energies are averaged over, >= 1.

    Returns:
        A prediction for each map.
    """
    started = awake(params, key)
    return {name: _one(loss, started, name, key.fold(name), amplitudes or {}, count) for name in names}


def _one(loss: Loss, params: Params, name: str, key: Key, amplitudes: Amplitudes, count: int) -> Prediction:
    rest, own = {n: w for n, w in params.items() if n != name}, {name: params[name]}
    signs = [
        {name: key.fold(k).signs(name, tuple(params[name].shape), like=params[name])} for k in range(count)
    ]
    slopes, noise = torch.zeros(count, dtype=torch.float64), 0.0
    for i, (share, part) in enumerate(loss.parts()):

        def move(name: str, call: int, like: Tensor, i: int = i) -> list[Tensor]:
            return [key.fold("u", i, call, k).signs(name, tuple(like.shape), like=like) for k in range(count)]

        def examples(w: Params, part: Loss = part) -> Tensor:
            return part.examples({**rest, **w})

        along = tapped(examples, own, {}, signs, move, part.mask)
        slopes += share * along.slopes.detach().mean(1).double().cpu()
        far = (
            {} if part.mask is None else spread({n: a for n, a in amplitudes.items() if n == name}, part.mask)
        )
        got = tapped(examples, {}, own, [{}] * count, move, part.mask, far)
        outputs = got.slopes.detach().double().square().mean(0)
        inputs = got.traces[name].product().double().square().sum((2, 3, 4)).mean(0)
        noise += (share / len(outputs)) ** 2 * float((outputs * inputs).sum())
    square = float(slopes.square().mean())
    return Prediction(
        tokens=mean_tokens(loss),
        weight=float(params[name].numel()),
        activation=noise / square if square else math.nan,
        inputs=params[name].shape[1],
    )


def shorter(predictions: Mapping[str, Prediction]) -> Choice:
    """Tap a map while texts are shorter than its measured limit.

    Args:
        predictions: By name; maps without one are not tapped.

    Returns:
        The choice.
    """
    limits = {name: one.limit for name, one in predictions.items()}
    return lambda params, tokens: [n for n in maps(params, tokens) if tokens < limits.get(n, 0.0)]
