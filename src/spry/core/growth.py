"""Whole numbers that grow over a run: more directions, or more examples, once the steps that are left are small."""

from __future__ import annotations

from dataclasses import dataclass

from spry.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Growth:
    """A number that is multiplied from phase to phase, ``n = start factor^p`` in phase p, all phases equally long.

    It depends on the round alone, so everyone who knows the configuration knows it, and a resumed run goes on with it.

    Args:
        start: The number in the first phase, >= 1.
        factor: What each phase multiplies it by, >= 1; 1 keeps it.
        phases: How many phases a run has, >= 1.
        rounds: Rounds of the run, >= 0; 0 if that is not known, which keeps the number.

    Raises:
        ConfigError: If a setting is out of range.
    """

    start: int = 1
    factor: int = 1
    phases: int = 1
    rounds: int = 0

    def __post_init__(self) -> None:
        if min(self.start, self.factor, self.phases) < 1:
            raise ConfigError(
                f"a number that grows from {self.start} by {self.factor} in {self.phases} phases was asked for; "
                "each of the three must be at least 1"
            )

    @property
    def grows(self) -> bool:
        """Whether it ever changes."""
        return self.rounds > 0 and self.factor > 1 and self.phases > 1

    @property
    def last(self) -> int:
        """The number in the last phase."""
        return self.start * self.factor ** (self.phases - 1) if self.grows else self.start

    def at(self, round: int) -> int:
        """Read the number.

        Args:
            round: The round, from 0; rounds beyond the last belong to the last phase.

        Returns:
            The number in that round.
        """
        if not self.grows:
            return self.start
        return self.start * self.factor ** min(round * self.phases // self.rounds, self.phases - 1)
