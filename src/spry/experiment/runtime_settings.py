"""The table of a configuration that says who runs the clients."""

from __future__ import annotations

from pydantic import Field

from spry.experiment.schema import Settings


class RuntimeSettings(Settings):
    """Who runs the clients, and how a round is waited for."""

    workers: int = Field(
        default=1,
        ge=1,
        description="Processes of this machine that run a round's clients and evaluations; where torchrun has started "
        "the run, those that it started. Weights are the same, bit for bit.",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        description="Threads of each process, on which the last bits of weights can depend; if unset as many as the "
        "run began with, at first the machine's by the workers.",
    )
    over_select: int = Field(
        default=0,
        ge=0,
        description="Clients asked beyond schedule.clients_per_round: the first replies count, once each unit has one. "
        "They train what others were dealt, too, so that a unit need not wait for its owner.",
    )
    deadline: float | None = Field(
        default=None,
        gt=0,
        description="Seconds after which a round ends with the replies that came; it waits for everybody if unset. "
        "Weights depend on who is fast, then; a resumed run may have another.",
    )
