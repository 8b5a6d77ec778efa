"""What the server remembers of past aggregates, to send it to clients as a guess of the next gradient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from spry.core.params import Params, restrict, size, tree_map

GUESS = "gradient"
"""The slot of the server's memory that holds the guess."""


@dataclass(frozen=True, kw_only=True)
class GradientEma:
    """A running mean of aggregates, ``h <- beta h + (1 - beta) g_hat``.

    Args:
        beta: Decay, in [0, 1).
        exact: Names whose gradient is taken exactly: no guess of them is needed.
        believed: K if clients subtract the guess (``previous``). Then its noise would come back in the next aggregate,
            and grow from round to round wherever ``d > M K``. So it is sent shrunk to ``h / (1 + e)``, with
            ``e = d / (M K) sum_i weight_i^2`` the error it has if the gradient is steady: the least error there is,
            below that of no guess. 0 if clients only ask about its direction.
    """

    beta: float
    exact: frozenset[str] = frozenset()
    believed: int = 0

    def guess(
        self, memory: Mapping[str, Params], trained: Iterable[str], clients: int, round: int
    ) -> Params | None:
        """Read the guess for one client of M, after some rounds; None before anything was absorbed."""
        if GUESS not in memory:
            return None
        own = restrict(memory[GUESS], set(trained) - self.exact)
        if not self.believed:
            return own
        old = self.beta ** (2 * (round - 1))
        squares = old + (1 - self.beta) / (1 + self.beta) * (1 - old)
        shrunk = 1 / (1 + size(memory[GUESS]) / (clients * self.believed) * squares)
        return tree_map(lambda h: h * shrunk, own)

    def take(self, memory: Mapping[str, Params], found: Params, weights: Params) -> dict[str, Params]:
        """Move the guess towards a round's aggregate; weights that had no owner keep theirs."""
        old, new = memory.get(GUESS, {}), dict[str, Tensor]()
        for name, weight in weights.items():
            if name not in self.exact:
                before = old.get(name, torch.zeros_like(weight))
                mean = self.beta * before + (1 - self.beta) * found.get(name, before) if old else before
                new[name] = mean if old else found.get(name, before)
        return {**memory, GUESS: new}
