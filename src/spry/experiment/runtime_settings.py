"""The table of a configuration that says who runs the clients."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from spry.experiment.schema import Settings


class RuntimeSettings(Settings):
    """Who runs the clients, and how a round is waited for."""

    name: Literal["simulate", "flower"] = Field(
        default="simulate",
        description="simulate runs clients in this process; flower on nodes of Flower's, which needs the extra flower: "
        "spry run starts an engine of its own, spry flower init writes an app for a deployment. Weights are the same.",
    )
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
    nodes: int | None = Field(
        default=None,
        ge=1,
        description="Flower's nodes that are waited for before round 1; if unset one a client where Flower simulates "
        "them, and 2 in a deployment.",
    )
    wait: float = Field(
        default=600.0,
        gt=0,
        description="Seconds that nodes are waited for, and each answer where no deadline is set.",
    )
    data: Literal["dealt", "nodes"] = Field(
        default="dealt",
        description="dealt: each node reads data.name and plays the clients that it is asked to; nodes: each node is "
        "one client with a file of its own, which never leaves it (a deployment's node-config data).",
    )
    labels: list[str] = Field(
        default=[],
        description="The classes that files of nodes may have, in order; spry flower init writes them.",
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

    @property
    def finds_clients(self) -> bool:
        """Whether clients are nodes with data of their own: how many there are is known when they have come."""
        return self.name != "simulate" and self.data == "nodes"
