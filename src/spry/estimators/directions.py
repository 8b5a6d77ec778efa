"""Random directions ``v`` with ``E[v v^T] = I``, each drawn from a key and a weight's name."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from spry.core.keys import Key
from spry.core.params import Params


class Directions(Protocol):
    """Draws K directions for some weights."""

    def __call__(self, key: Key, params: Params, count: int) -> list[dict[str, Tensor]]:
        """Draw.

        Args:
            key: Where the numbers come from.
            params: Weights whose names, shapes, dtypes and devices the directions take.
            count: K, >= 1.

        Returns:
            K directions with the names of ``params``.
        """
        ...


def gaussian(key: Key, params: Params, count: int) -> list[dict[str, Tensor]]:
    """Draw independent standard normal directions; relative squared error of the estimate ``(d + 1) / K``.

    Args:
        key: Where the numbers come from.
        params: Weights that the directions are shaped like.
        count: K, >= 1.

    Returns:
        K directions.

    Source:
        Baydin et al. 2022 (arXiv 2202.08587); Panchal et al. 2024 (arXiv 2405.15551), section 3.
    """
    keys = [key.fold("direction", k) for k in range(count)]
    return [{n: k.normal(n, tuple(w.shape), like=w) for n, w in params.items()} for k in keys]


def rademacher(key: Key, params: Params, count: int) -> list[dict[str, Tensor]]:
    """Draw directions of independent signs; relative squared error of the estimate ``(d - 1) / K``.

    Args:
        key: Where the signs come from.
        params: Weights that the directions are shaped like.
        count: K, >= 1.

    Returns:
        K directions.

    Source:
        Spall 1992 (simultaneous perturbation), whose distribution this is.
    """
    keys = [key.fold("direction", k) for k in range(count)]
    return [{n: k.signs(n, tuple(w.shape), like=w) for n, w in params.items()} for k in keys]
