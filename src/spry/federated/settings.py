"""What may be chosen for a method beyond its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spry.core.unit import Unit, names_of
from spry.estimators.directions import Directions, gaussian
from spry.estimators.estimate import Estimator
from spry.estimators.projected import projected
from spry.estimators.slopes import Slope
from spry.federated.split import Split
from spry.optim.transform import Transform


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What may be chosen beyond a method's name; None leaves it to the method.

    Args:
        client: The client's optimizer.
        server: The server's optimizer.
        split: Who trains what, for the methods that split.
        directions: How random directions are drawn.
        count: K, directions per step, >= 1.
        h: Step of finite differences, > 0.
        checkpoint: Whether backpropagation recomputes activations instead of keeping them.
        exact_head: Whether methods with directions take the head's gradient exactly instead of perturbing the head.
    """

    client: Transform | None = None
    server: Transform | None = None
    split: Split | None = None
    directions: Directions = gaussian
    count: int = 1
    h: float = 1e-3
    checkpoint: bool = False
    exact_head: bool = True

    def projected(self, slope: Slope, units: Sequence[Unit]) -> Estimator:
        """Make the estimator of a method with directions.

        Args:
            slope: How slopes are measured.
            units: The units, for the names of the head.

        Returns:
            The estimator.
        """
        head = names_of(unit for unit in units if unit.head) if self.exact_head else ()
        return projected(slope, self.directions, self.count, exact=head)
