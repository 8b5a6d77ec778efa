"""Which round a run keeps, and when it has waited long enough for a better one; the validation part decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from spry.core.params import Params
from spry.data.reading import quantity
from spry.experiment.schema import ScheduleSettings
from spry.federated.algorithm import ServerState
from spry.federated.ema import delivered
from spry.runtime.records import Round
from spry.tasks.score import Score


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The best of the regular evaluations so far, the earlier of equals.

    Args:
        round: Its round, from 0.
        score: Its validation score.
        waited: Regular evaluations since then, none of them better.
        weights: Those that were evaluated; none if the run keeps its last round.
    """

    round: int
    score: float
    waited: int = 0
    weights: Params = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """The rules by which a run chooses.

    An evaluation is regular if its round is a multiple of ``evaluate_every``. Others, such as the last one of a run of
    10 rounds evaluated every 4, do not count while a run goes on: a longer run would not have them.
    """

    schedule: ScheduleSettings
    score: Score

    def follow(self, kept: Kept | None, record: Round) -> Kept | None:
        """Take in a round."""
        if not self.schedule.chooses or record.validation is None or not self._is_regular(record.number):
            return kept
        value = record.validation.values()[self.score.name]
        if value is not None and (kept is None or self.score.better(value, kept.score)):
            weights = record.weights if self.schedule.keep == "best" else {}
            return Kept(round=record.number, score=value, weights=weights)
        return kept and replace(kept, waited=kept.waited + 1)

    def is_over(self, kept: Kept | None) -> bool:
        return (
            kept is not None and self.schedule.patience is not None and kept.waited >= self.schedule.patience
        )

    def deliver(
        self, kept: Kept | None, state: ServerState, rounds: Sequence[Mapping[str, Any]]
    ) -> tuple[int, Params]:
        """Choose, when a run has ended, after how many rounds its weights are kept, and those weights.

        Args:
            kept: The best regular evaluation.
            state: The state after the last round.
            rounds: The lines of ``rounds.jsonl``.
        """
        last = rounds[-1] if rounds else None
        if self.schedule.keep == "last" or kept is None or last is None:
            return state.round, delivered(state)
        value = last.get(self.score.key("validation"))
        if value is not None and self.score.better(value, kept.score):
            return state.round, delivered(state)
        return kept.round + 1, kept.weights

    def why_over(self, kept: Kept | None) -> str | None:
        """Say why the run ended early; None if it did not."""
        if kept is None or not self.is_over(kept):
            return None
        name, waited = self.score.name.replace("_", " "), quantity(kept.waited, "evaluation")
        return f"no better validation {name} in {waited} after round {kept.round + 1} (schedule.patience)"

    def _is_regular(self, number: int) -> bool:
        return (number + 1) % self.schedule.evaluate_every == 0
