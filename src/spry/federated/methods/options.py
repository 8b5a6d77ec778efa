"""Options that several methods share, each written once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from spry.core.units import exact_names
from spry.estimators.projected import SlopeSpec
from spry.federated.algorithm import Replayed
from spry.federated.methods.registry import Options, Setup
from spry.federated.split import Split, budgeted, contiguous, cyclic, everything

SPLITS: Mapping[str, Split] = {"cyclic": cyclic, "contiguous": contiguous, "everything": everything}
SplitOption = Annotated[
    Literal["cyclic", "contiguous", "everything"] | tuple[float, ...],
    Field(
        description="Who trains what: units dealt like cards, runs of neighbouring units, all to everybody; or a list "
        "of budgets, the largest share of the weights a client may train, dealt to clients in turn."
    ),
]


def find_split(option: str | tuple[float, ...]) -> Split:
    return SPLITS[option] if isinstance(option, str) else budgeted(option)


@dataclass(frozen=True, kw_only=True)
class DirectionOptions(Options):
    """What methods share that measure slopes along random directions."""

    num_directions: Annotated[int, Field(ge=1, le=1 << 16, description="K, directions per step.")] = 1

    def spec(self, setup: Setup) -> SlopeSpec:
        return SlopeSpec(exact=exact_names(setup.units))

    def replayed(self, setup: Setup) -> Replayed:
        return Replayed(spec=self.spec(setup), num_directions=self.num_directions, max_steps=setup.max_steps)


@dataclass(frozen=True, kw_only=True)
class SteppingDirectionOptions(DirectionOptions):
    """The same of methods whose clients step, and so may send weights or slopes."""

    send: Annotated[
        Literal["weights", "slopes"],
        Field(description="What clients send: their weights, or slopes that the server replays."),
    ] = "weights"

    def replayed_if_sent(self, setup: Setup) -> Replayed | None:
        return self.replayed(setup) if self.send == "slopes" else None
