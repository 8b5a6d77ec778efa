"""Real numbers as integers modulo 2^k, so that sums are exact and masks are uniform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, ldexp

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spry.core.errors import ConfigError, DataError
from spry.core.params import Params
from spry.federated.secure.masks import Residues

FEWEST_STEPS = 256
"""Steps from 0 to the largest number that are taken for enough to say anything."""


@dataclass(frozen=True, kw_only=True)
class FixedPoint:
    """Residues in [-R, R] as multiples of ``2^-f``, rounded to the nearest, ties to even.

    ``f`` is the most for which the sum of all clients' numbers has k bits, its sign among them. A sum of n numbers is
    off by at most ``n 2^-(f+1)``, and equals the sum of the rounded ones exactly.

    Args:
        bits: k, 32 or 64.
        largest: R > 0.
        clients: The most that are added up, >= 1.
    """

    bits: int
    largest: float
    clients: int

    def __post_init__(self) -> None:
        if self.bits not in {32, 64}:
            raise ConfigError(f"privacy.bits is {self.bits}; it must be 32 or 64")
        if not 0 < self.largest < float("inf"):
            raise ConfigError(f"privacy.largest is {self.largest}; it must be a number greater than 0")
        if ldexp(self.largest, self.fraction) < FEWEST_STEPS:
            raise ConfigError(
                f"{self.clients} numbers up to {self.largest:g} do not fit in {self.bits} bits. Set privacy.bits=64, "
                "or a smaller privacy.largest"
            )

    @property
    def fraction(self) -> int:
        """``f``, at most 52: doubles have no more digits."""
        bound = 2 ** (self.bits - 1)
        fits = (f for f in range(52, -1100, -1) if self.clients * ceil(ldexp(self.largest, f)) < bound)
        return next(fits, -1100)

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        return np.dtype(f"<u{self.bits // 8}")

    def encode(self, values: Params) -> Residues:
        """Write all numbers one after the other, in the order of names.

        Raises:
            DataError: If one lies outside the range.
        """
        flat = torch.cat([value.detach().cpu().double().flatten() for value in values.values()])
        if not bool((flat.abs() <= self.largest).all()):
            raise DataError(
                f"a number to be summed is {float(flat.abs().max()):g}, and privacy.largest is {self.largest:g}. Set a "
                "larger one, or shorten updates with client.clip"
            )
        return np.rint(np.ldexp(flat.numpy(), self.fraction)).astype(np.int64).astype(self.dtype)

    def decode(
        self, total: NDArray[np.unsignedinteger], like: Mapping[str, tuple[int, ...]]
    ) -> dict[str, Tensor]:
        """Read a sum of encoded numbers, in float64, by names and shapes."""
        signed = total.astype(f"<i{self.bits // 8}").astype(np.float64)
        flat = torch.empty(len(signed), dtype=torch.float64)
        flat.numpy()[:] = np.ldexp(signed, -self.fraction)
        parts = flat.split([int(np.prod(shape)) for shape in like.values()])
        return {name: part.reshape(shape) for (name, shape), part in zip(like.items(), parts, strict=True)}
