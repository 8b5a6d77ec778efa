"""K chosen client by client: more directions where slices are noisier, and as many in all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from statistics import fmean

import torch

from spry.core.params import Params, dot
from spry.core.unit import Unit

MEANS, ENERGIES = "counts: means", "counts: energies"
"""Slots of the server's memory: each weight's running mean m, and each unit's v, share s of noise, and rounds."""


@dataclass(frozen=True, kw_only=True)
class Allotment:
    """Shares a round's M K directions out so that the united update errs least, ``min sum_i N_i / K_i``.

    ``N_i`` is the noise of client i's slice along one direction: of each unit ``(v - |m|^2) / ((1 - rho) s)``, with
    m, v and s the running means of its aggregate, of its square and of ``1/n^2 sum_i 1/K_i``, the share of one
    direction's noise that n owners leave; rho is what the mean leaves of noise in ``|m|^2``. What one more direction
    takes away, ``N_i / (K_i (K_i + 1))``, falls with every one, so giving each where it takes away the most leaves the
    least error there is. Clients of equal slices get equal K.

    Args:
        most: The largest K of a client, >= 1.
        beta: Decay of the running means, in [0, 1).
        exact: Names whose gradient is taken exactly: directions have no part in their noise.

    Source:
        Neyman 1934, optimum allocation to strata. FwdLLM (arXiv 2308.13894) paces K over time instead, by the variance
        of one tensor.
    """

    most: int
    beta: float = 0.9
    exact: frozenset[str] = frozenset()

    def counts(
        self, memory: Mapping[str, Params], dealt: Mapping[int, Sequence[Unit]], mean: int
    ) -> dict[int, int]:
        """Share out the directions of a round.

        Args:
            memory: The server's memory.
            dealt: The clients' units.
            mean: K on average.

        Returns:
            K of each client, from 1 to ``most``, M times ``mean`` together; all equal before any noise is known.
        """
        units = {unit.name: unit for own in dealt.values() for unit in own if self._moved(unit)}
        known = {name: n for name, unit in units.items() if (n := self._noise(memory, unit)) is not None}
        usual = fmean(known.values()) if known else 1.0
        noise = {c: sum(known.get(u.name, usual) for u in own if u.name in units) for c, own in dealt.items()}
        found = dict.fromkeys(dealt, 1)
        gains = [(-noise[client] / 2, 1, place, client) for place, client in enumerate(dealt)]
        heapify(gains)
        for _ in range(len(dealt) * (min(mean, self.most) - 1)):
            _, k, place, client = gains[0]
            found[client] = k = k + 1
            gain = noise[client] / (k * (k + 1)) if k < self.most else -1.0  # none beyond the most
            heapreplace(gains, (-gain, k, place, client))
        return found

    def take(
        self,
        memory: Mapping[str, Params],
        units: Iterable[Unit],
        found: Params,
        asked: Sequence[tuple[frozenset[str], int]],
    ) -> dict[str, Params]:
        """Move the running means towards what a round found.

        Args:
            memory: The server's memory.
            units: All units.
            found: The round's aggregate, for the weights that had an owner; of other units nothing is learnt.
            asked: Of each reply that counted what it trained, and its K.

        Returns:
            The memory after it.
        """
        means, energies = dict(memory.get(MEANS, {})), dict(memory.get(ENERGIES, {}))
        for unit in units:
            own = {name: found[name].double() for name in self._moved(unit) if name in found}
            spent = [k for names, k in asked if not names.isdisjoint(own)]
            if own and spent:
                for name, g in own.items():
                    before = means.get(name, torch.zeros_like(g))
                    means[name] = self.beta * before + (1 - self.beta) * g
                share = sum(1 / k for k in spent) / len(spent) ** 2
                new = torch.tensor([dot(own, own), share], dtype=torch.float64)
                old = energies.get(unit.name, torch.zeros(3, dtype=torch.float64))
                energies[unit.name] = torch.cat([self.beta * old[:2] + (1 - self.beta) * new, old[2:] + 1])
        return {**memory, MEANS: means, ENERGIES: energies}

    def _noise(self, memory: Mapping[str, Params], unit: Unit) -> float | None:
        """Read a unit's noise along one direction; None if it was never trained."""
        if unit.name not in memory.get(ENERGIES, {}):
            return None
        square, share, rounds = memory[ENERGIES][unit.name].tolist()
        old = self.beta**rounds
        own = {name: memory[MEANS][name] for name in self._moved(unit) if name in memory[MEANS]}
        rho = (1 - self.beta) * (1 + old) / ((1 + self.beta) * (1 - old))
        if rho > 1 - 1e-9:  # of a single aggregate there is no variance to see
            return square / share
        noise = square / (1 - old) - dot(own, own) / (1 - old) ** 2
        return max(noise, 0.0) / (1 - rho) / (share / (1 - old))

    def _moved(self, unit: Unit) -> list[str]:
        return [name for name in unit.names if name not in self.exact]
