"""Control variates: a guess h of the gradient, known to both sides, takes over what it can, unbiasedly.

``previous`` believes the guess: ``g_hat = h + 1/K sum_k (s_k - <h, v_k>) v_k`` errs as an estimate of g - h would.
``guided`` asks one slope about it: of K directions the first is h itself, the others are at right angles to it. What
lies along h is then exact whatever its length, and the rest of g is estimated with K - 1 directions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from spry.core.keys import Key
from spry.core.params import Params, dot, tree_map
from spry.estimators.directions import Directions, gaussian
from spry.estimators.estimate import Estimate, Estimator
from spry.estimators.loss import Loss
from spry.estimators.projected import SlopeSpec, expand


def guided_directions(guess: Params | None) -> Directions:
    """Draw gaussian directions of which the first is a guess of the gradient; without one, all are random."""

    def draw(key: Key, params: Params, count: int) -> list[dict[str, Tensor]]:
        if guess is None or count < 2 or not any(guess[n].any() for n in params):
            return gaussian(key, params, count)
        return guided(gaussian(key, params, count - 1), guess)

    return draw


def guided(drawn: Sequence[Params], guess: Params) -> list[dict[str, Tensor]]:
    """Put a guess h of the gradient, not zero, before K - 1 directions with ``E[v v'] = I``, and turn these from it.

    ``v_0 = sqrt(K) u`` and ``v_k = sqrt(K / (K - 1)) (v - u <u, v>)`` with ``u = h / |h|``, so that
    ``1/K sum_k E[v_k v_k'] = u u' + (I - u u') = I``. The guess may have more names than the directions.
    """
    own = {name: guess[name] for name in drawn[0]}
    length = dot(own, own) ** 0.5
    unit = tree_map(lambda h: h / length, own)
    count = len(drawn) + 1
    longer = (count / (count - 1)) ** 0.5
    rest: list[dict[str, Tensor]] = []
    for v in drawn:
        along = dot(unit, v)
        rest.append({name: (x - unit[name] * along) * longer for name, x in v.items()})
    return [tree_map(lambda u: u * count**0.5, unit), *rest]


def corrected(estimator: Estimator, spec: SlopeSpec, guess: Params | None) -> Estimator:
    """Let an estimate from slopes err as one of ``g - h`` would: ``g_hat + h - 1/K sum_k <h, v_k> v_k``.

    The estimator measures slopes along the directions of ``spec``, which are drawn again here, or takes recorded ones.
    Without a guess h nothing is corrected.
    """

    def estimate(loss: Loss, params: Params, key: Key) -> Estimate:
        found = estimator(loss, params, key)
        directions = spec.draw(key, params, len(found.slopes))
        if guess is None or not directions:
            return found
        foreseen = torch.tensor([dot(v, guess) for v in directions], dtype=torch.float64)
        residual = expand(found.slopes.double() - foreseen, directions)
        return Estimate(
            value=found.value,
            gradient={**found.gradient, **tree_map(torch.add, residual, guess)},
            slopes=found.slopes,
        )

    return estimate
