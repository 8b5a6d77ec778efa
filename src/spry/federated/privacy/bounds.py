"""How much one client, or one example, may add to a round's sum."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from spry.core.errors import ConfigError
from spry.core.params import Params, dot, restrict
from spry.federated.summing import SLOPES


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Norms to which what a client adds is shortened: its slopes together, and all else together.

    Args:
        dense: C > 0 of updates, gradients, and what is exact beside slopes; None if there is nothing of it.
        slopes: C > 0 of all slopes of a client together; None if there are none.
        examples: By how many an example's share of it is smaller, >= 1, where single examples are bounded; 1 bounds
            clients.
    """

    dense: float | None = None
    slopes: float | None = None
    examples: int = 1

    def __post_init__(self) -> None:
        for norm in (self.dense, self.slopes):
            if norm is not None and not norm > 0:
                raise ConfigError(f"privacy.clip is {norm}; it must be a norm greater than 0, such as 1.0")

    def sensitivity(self, name: str) -> float:
        """By how much one client, or example, changes a sum, in a unit in which both groups weigh alike.

        Noise of z times this on every number of ``name`` has the multiplier z: of G groups each adds C_g at most, so
        that ``sum_g |x_g|^2 / (G C_g^2) <= 1``.
        """
        norm = self.slopes if name.startswith(SLOPES) else self.dense
        groups = sum(bound is not None for bound in (self.dense, self.slopes))
        assert norm is not None  # whoever made the bounds knows what is sent
        return groups**0.5 * norm / self.examples

    def shorten(self, values: Params) -> Params:
        """Shorten one client's contribution, ``x <- x min(1, C / |x|)``; what is not finite counts as nothing."""
        slopes = [name for name in values if name.startswith(SLOPES)]
        dense = [name for name in values if not name.startswith(SLOPES)]
        return {**self._shorten(values, slopes, self.slopes), **self._shorten(values, dense, self.dense)}

    @staticmethod
    def _shorten(values: Params, names: Iterable[str], norm: float | None) -> Params:
        part = {name: value.double() for name, value in restrict(values, names).items()}
        if norm is None:
            assert not part  # nobody bounds it
            return part
        length = dot(part, part) ** 0.5
        if not length < float("inf"):
            return {name: value.new_zeros(value.shape) for name, value in part.items()}
        return part if length <= norm else {name: value * (norm / length) for name, value in part.items()}
