"""What may be chosen for a method beyond its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from spry.core.errors import ConfigError
from spry.core.growth import Growth
from spry.core.unit import Unit, names_of
from spry.estimators.activation import Choice, activation
from spry.estimators.amplitudes import Amplitudes
from spry.estimators.control import Control
from spry.estimators.directions import Directions, gaussian
from spry.estimators.estimate import Estimator
from spry.estimators.projected import Measurement, projected
from spry.estimators.slopes import Slope, forward_mode
from spry.federated.counts import Allotment
from spry.federated.fwdllm import Pacing
from spry.federated.recall import Recall
from spry.federated.sampled import Sampled
from spry.federated.split import Split
from spry.optim.transform import Transform
from spry.wire.codec import MOST_CHOICE


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What may be chosen beyond a method's name; None leaves it to the method.

    Args:
        client: The client's optimizer.
        server: The server's optimizer.
        split: Who trains what, for the methods that split.
        tap: Which maps forward mode moves at their outputs instead of moving their weights; None taps none.
        amplitudes: How far tapped outputs are moved; all alike without it.
        tied: Whether tapped outputs of the tokens between the first and the last move together.
        directions: How random directions are drawn.
        control: How the running mean of past aggregates takes noise away, for methods with directions but fwdllm.
        pool: Candidates for each direction, of which those most aligned to that running mean are kept, >= 1.
        decay: Decay of that running mean, and of those that ``most`` goes by, in [0, 1).
        count: K, directions per step, >= 1.
        growth: What each phase multiplies K by, >= 1.
        most: The largest K of a client: shares K out among them by the noise of their slices; None gives all the same.
        phases: Phases of equal length that the rounds have, >= 1.
        sleep: Whether methods with directions leave weights out while their gradient is known to be zero.
        difference: Which finite difference, given its step, for the methods that leave the choice.
        h: Step of finite differences, > 0.
        checkpoint: Whether backpropagation recomputes activations instead of keeping them.
        exact_head: Whether methods with directions take the head's gradient exactly instead of perturbing the head.
        slopes_only: Whether clients of such methods send their slopes, and the server replays them, instead of weights.
        pacing: When FwdLLM's server steps.
        rounds: Rounds of the run, for step sizes that decay over them and K that grows; without it neither does.
    """

    client: Transform | None = None
    server: Transform | None = None
    split: Split | None = None
    tap: Choice | None = None
    amplitudes: Amplitudes | None = None
    tied: bool = False
    directions: Directions = gaussian
    control: Control | None = None
    pool: int | None = None
    decay: float = 0.9
    count: int = 1
    growth: int = 1
    most: int | None = None
    phases: int = 3
    sleep: bool = True
    difference: Callable[[float], Slope] | None = None
    h: float | None = None
    checkpoint: bool = False
    exact_head: bool = True
    slopes_only: bool = False
    pacing: Pacing = field(default_factory=Pacing)
    rounds: int | None = None

    @property
    def counts(self) -> Growth:
        """K, round by round.

        Raises:
            ConfigError: If it would outgrow what an order can ask for.
        """
        counts = Growth(start=self.count, factor=self.growth, phases=self.phases, rounds=self.rounds or 0)
        if counts.last > MOST_CHOICE:
            raise ConfigError(
                f"method.count = {self.count} grows to {counts.last} directions; at most {MOST_CHOICE} can be asked "
                "for. Lower method.count_growth or schedule.phases"
            )
        return counts

    def measurement(self, units: Sequence[Unit]) -> Measurement:
        """Say what the methods with directions measure along.

        Args:
            units: The units, for the names of the head.

        Returns:
            The directions, and the head's names if its gradient is taken exactly.

        Raises:
            ConfigError: If a single direction shall be guided: it would look along the hint alone; or if directions
                shall be both guided and chosen from a pool, which each take the hint in their own way.
        """
        pool = self.pool or 1
        if self.control is not None and pool > 1:
            raise ConfigError(
                f"method.pool = {pool} and method.control_variate = {self.control!r} both go by past aggregates: set "
                "method.pool = 1, or method.control_variate = 'none'"
            )
        if self.control == "guided" and self.count < 2:
            raise ConfigError(
                "one of the directions of method.control_variate = 'guided' is spent on the hint, so method.count must "
                f"be at least 2; it is {self.count}"
            )
        head = names_of(unit for unit in units if unit.head) if self.exact_head else ()
        return Measurement(directions=self.directions, exact=frozenset(head), pool=pool, control=self.control)

    def along(self, slope: Slope, units: Sequence[Unit]) -> Sampled:
        """Make the estimator of a method that measures slopes along weight directions.

        Args:
            slope: How they are measured.
            units: The units, for the names of the head.

        Returns:
            Weight directions, and what the server decides of them.
        """
        return self._sampled(partial(projected, slope, self.measurement(units)), units)

    def forward(self, units: Sequence[Unit]) -> Sampled:
        """Make the estimator of a method that runs in forward mode.

        Args:
            units: The units, for the names of the head.

        Returns:
            Weight directions, or activation directions for the maps that ``tap`` chooses.

        Raises:
            ConfigError: If clients shall send only slopes of activation directions, which determine no gradient, or a
                control variate or a pool is asked for with them.
        """
        if self.tap is None:
            return self.along(forward_mode, units)
        if self.measurement(units).hinted:
            raise ConfigError(
                "method.control_variate and method.pool work along weight directions: set method.estimator = 'weight', "
                "or method.control_variate = 'none' and method.pool = 1"
            )
        if self.slopes_only:
            raise ConfigError(
                "slopes of activation directions determine no gradient without the client's data, so they cannot be "
                "all that is sent: set method.estimator = 'weight', or method.slopes_only = false"
            )
        tap, amplitudes, tied, measurement = self.tap, self.amplitudes, self.tied, self.measurement(units)
        return self._sampled(lambda count: activation(measurement, count, tap, amplitudes, tied=tied), units)

    def _sampled(self, estimator: Callable[[int], Estimator], units: Sequence[Unit]) -> Sampled:
        counts, allotment = self.counts, None
        if self.most is not None:
            if not 2 <= counts.last <= self.most <= MOST_CHOICE:
                raise ConfigError(
                    f"method.count_max = {self.most} shares out {counts.last} directions a client: method.count must "
                    f"be at least 2, for each client has one, and method.count_max from there to {MOST_CHOICE}"
                )
            allotment = Allotment(most=self.most, beta=self.decay, exact=self.measurement(units).exact)
        return Sampled(estimator=estimator, counts=counts, allotment=allotment, sleep=self.sleep)

    def recall(self, units: Sequence[Unit]) -> Recall | None:
        """Say which hint clients are sent.

        Args:
            units: The units, for the names of the head.

        Returns:
            What the server remembers for it; None if they need none.
        """
        if not self.measurement(units).hinted:
            return None
        # of past aggregates; if K grows, the guess is shrunk more than it need be
        believed = self.count if self.control == "previous" else 0
        return Recall(beta=self.decay, exact=self.measurement(units).exact, believed=believed)

    def replayed(self, units: Sequence[Unit]) -> Measurement | None:
        """Say what the server needs to replay clients that send only their slopes.

        Args:
            units: The units, for the names of the head.

        Returns:
            The measurement; None if clients send weights.
        """
        return self.measurement(units) if self.slopes_only else None
