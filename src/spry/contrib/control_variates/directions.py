"""Control variates: a guess h of the gradient, known to both sides, takes over what it can, unbiasedly.

``previous`` believes the guess: ``g_hat = h + 1/K sum_k (s_k - <h, v_k>) v_k`` errs as an estimate of g - h would.
``guided`` asks one slope about it: of K directions the first is h itself, the others are at right angles to it. What
lies along h is then exact whatever its length, and the rest of g is estimated with K - 1 directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from spry.core.params import Params, dot, tree_map

Control = Literal["previous", "guided"]


def guided(drawn: Sequence[Params], hint: Params) -> list[dict[str, Tensor]]:
    """Put a guess of the gradient before some directions, and turn these away from it.

    ``v_0 = sqrt(K) u`` and ``v_k = sqrt(K / (K - 1)) (v - u <u, v>)`` with ``u = h / |h|``, so that
    ``1/K sum_k E[v_k v_k'] = u u' + (I - u u') = I``.

    Args:
        drawn: K - 1 directions with ``E[v v'] = I``.
        hint: ``h``, not zero, with at least the names of the directions.

    Returns:
        K directions.
    """
    names = list(drawn[0])
    own = {name: hint[name] for name in names}
    length = dot(own, own) ** 0.5
    unit = tree_map(lambda h: h / length, own)
    count = len(drawn) + 1
    longer = (count / (count - 1)) ** 0.5
    rest: list[dict[str, Tensor]] = []
    for v in drawn:
        along = dot(unit, v)
        rest.append({name: (x - unit[name] * along) * longer for name, x in v.items()})
    return [tree_map(lambda u: u * count**0.5, unit), *rest]


def residual(slopes: Tensor, drawn: Sequence[Params], hint: Params) -> Tensor:
    """Take from each slope what the guess foresaw, ``s_k - <h, v_k>``.

    Args:
        slopes: Shape (K,).
        drawn: K directions.
        hint: ``h``, with at least the names of the directions.

    Returns:
        Shape (K,).
    """
    return slopes.double() - torch.tensor([dot(v, hint) for v in drawn], dtype=torch.float64)
