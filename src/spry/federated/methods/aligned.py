"""Discriminative sampling: of a pool of directions, keep those that point where the last gradient pointed."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from spry.core.keys import Key
from spry.core.params import Params, dot
from spry.estimators.directions import Directions, gaussian


def cosine(left: Params, right: Params) -> float:
    """Measure ``cos(u, v) = <u, v> / (|u| |v|)`` over the tensors that u names, in float64; 0 if either is zero."""
    other = {name: right[name] for name in left}
    norms = (dot(left, left) * dot(other, other)) ** 0.5
    return dot(left, other) / norms if norms else 0.0


def most_aligned(pool: Sequence[dict[str, Tensor]], hint: Params, count: int) -> list[dict[str, Tensor]]:
    """Keep the ``count`` directions with the highest cosine to a guess of the gradient, in the order of the pool.

    The estimate along them is biased: with ``u`` the unit vector of the hint, ``E[v v^T] = I + (c - 1) u u^T`` in
    many dimensions, where ``c`` is the mean square of the kept values of that many standard normal draws. The part of
    the gradient along the hint comes out c times too long (2.7 for the best of 10), the rest unchanged. A zero hint
    keeps the first directions.

    Source:
        Xu et al. 2024 (FwdLLM, arXiv 2308.13894), discriminative perturbation sampling.
    """
    ranked = sorted(range(len(pool)), key=lambda i: -cosine(pool[i], hint))
    return [pool[i] for i in sorted(ranked[:count])]


def aligned_directions(guess: Params | None, candidates: int) -> Directions:
    """Draw ``candidates`` >= 1 gaussian directions for each that is kept: the most aligned to the guess, if any."""

    def draw(key: Key, params: Params, count: int) -> list[dict[str, Tensor]]:
        if guess is None or candidates == 1:
            return gaussian(key, params, count)
        return most_aligned(gaussian(key, params, count * candidates), guess, count)

    return draw
