"""Random directions ``v`` with ``E[v v^T] = I``, drawn from a key.

Independent numbers are drawn name by name, so a slice has the same ones as the whole. Directions that depend on each
other are drawn for all weights that are moved together.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from spry.core.keys import Key
from spry.core.params import Params, size


class Directions(Protocol):
    def __call__(self, key: Key, params: Params, count: int) -> list[dict[str, Tensor]]:
        """Draw K = ``count`` >= 1 directions with the names, shapes, dtypes and devices of ``params``."""
        ...


def gaussian(key: Key, params: Params, count: int) -> list[dict[str, Tensor]]:
    """Draw independent standard normal directions; relative squared error of the estimate ``(d + 1) / K``.

    Source:
        Baydin et al. 2022 (arXiv 2202.08587); Panchal et al. 2024 (arXiv 2405.15551), section 3.
    """
    keys = [key.fold("direction", k) for k in range(count)]
    return [{n: k.normal(n, tuple(w.shape), like=w) for n, w in params.items()} for k in keys]


def rademacher(key: Key, params: Params, count: int) -> list[dict[str, Tensor]]:
    """Draw directions of independent signs; relative squared error of the estimate ``(d - 1) / K``.

    Source:
        Spall 1992 (simultaneous perturbation), whose distribution this is.
    """
    keys = [key.fold("direction", k) for k in range(count)]
    return [{n: k.signs(n, tuple(w.shape), like=w) for n, w in params.items()} for k in keys]


def orthogonal(key: Key, params: Params, count: int) -> list[dict[str, Tensor]]:
    """Draw directions at right angles to each other; relative squared error of the estimate ``d/K - 1`` for K <= d.

    ``V = sqrt(d) Q`` with ``N = Q R`` for a matrix N of K gaussian draws, so that ``1/K sum_k v_k v_k'`` is the
    projection onto their span, d/K times too long: at K = d the estimate is the gradient itself. Each single
    direction is uniform on the sphere. Beyond d directions another independent set is begun. Right angles hold over
    all of ``params`` together, so a slice gets other numbers than the same weights within the whole.

    Source:
        Choromanski et al. 2018 (arXiv 1804.02395), section 3, there for evolution strategies.
    """
    d, drawn = size(params), gaussian(key, params, count)
    columns = torch.stack([_flat(v) for v in drawn], dim=1)
    sets = [torch.linalg.qr(part) for part in columns.split(d, dim=1)]
    turned = torch.cat([q * r.diagonal().sign() for q, r in sets], dim=1) * d**0.5
    return [_shaped(column, params) for column in turned.unbind(1)]


def coordinate(key: Key, params: Params, count: int) -> list[dict[str, Tensor]]:
    """Draw coordinates without replacement, ``v_k = sqrt(d) e_i(k)``; relative squared error ``d/K - 1`` for K <= d.

    The estimate is ``d/K`` times the gradient on the drawn coordinates, and the gradient itself at K = d, up to the
    rounding of ``sqrt(d)`` in the weights' type. Beyond d directions all coordinates are drawn anew. A slice is drawn
    other coordinates than the whole.

    Source:
        Nesterov 2012 (coordinate descent) draws with replacement; without it the error also falls to 0.
    """
    d = size(params)
    orders = [key.permutation(d, f"basis {i}") for i in range(-(-count // d))]
    chosen = [place for order in orders for place in order][:count]
    zeros = torch.zeros(d, dtype=torch.float64)
    return [_shaped(zeros.index_fill(0, torch.tensor(i), d**0.5), params) for i in chosen]


def _flat(params: Params) -> Tensor:
    return torch.cat([value.detach().cpu().double().flatten() for value in params.values()])


def _shaped(flat: Tensor, params: Params) -> dict[str, Tensor]:
    parts = flat.split([w.numel() for w in params.values()])
    return {
        name: part.reshape(w.shape).to(device=w.device, dtype=w.dtype)
        for (name, w), part in zip(params.items(), parts, strict=True)
    }
