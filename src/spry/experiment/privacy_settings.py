"""The table of a configuration that says what is kept private."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from spry.experiment.schema import Settings


class PrivacySettings(Settings):
    """What is kept from whoever sees the model, or from the server, too, and by how much noise."""

    mechanism: Literal["none", "central", "local"] = Field(
        default="none",
        description="Who adds noise: the server to the sum of replies, which it sees (central), each client to its "
        "own (local), or nobody (none).",
    )
    unit: Literal["client", "example"] = Field(
        default="client",
        description="Whose presence is hidden: a client's with all its examples, or an example's.",
    )
    epsilon: float | None = Field(
        default=None,
        gt=0,
        description="Budget of the run: a round that would spend more is refused. The noise of the planned rounds "
        "follows from it where privacy.noise is unset.",
    )
    delta: float = Field(
        default=1e-5,
        gt=0,
        lt=1,
        description="Chance with which epsilon need not hold; well below one by the number of clients, or examples.",
    )
    clip: float | None = Field(
        default=None,
        gt=0,
        description="Norm to which a client's update or slopes, or an example's slopes, are shortened.",
    )
    exact_clip: float | None = Field(
        default=None,
        gt=0,
        description="The same of what clients send exactly beside slopes; privacy.clip if unset.",
    )
    noise: float | None = Field(
        default=None,
        ge=0,
        description="Noise multiplier: standard deviation of the noise, by the most that one client or example adds; 0 "
        "clips only.",
    )
    head_clip: float | None = Field(
        default=None,
        gt=0,
        description="Norm to which the features of an example are shortened, where the head starts in closed form.",
    )
    head_examples: int = Field(
        default=64,
        ge=1,
        description="Examples of a client that count in full in a head in closed form, where clients are hidden.",
    )
    head_share: float = Field(
        default=0.25,
        gt=0,
        lt=1,
        description="Share of the budget that a head in closed form may spend, where its noise follows from that.",
    )
    head_noise: float | None = Field(
        default=None,
        ge=0,
        description="Noise multiplier of the head's sums; from head_share, or else privacy.noise, if unset.",
    )
    secure_aggregation: bool = Field(
        default=False,
        description="Whether the server learns only sums of replies, by masks that clients agree on in pairs.",
    )
    owners: int = Field(
        default=3,
        ge=3,
        description="Fewest clients whose sum the server may know; units are dealt so that each has as many.",
    )
    bits: Literal[32, 64] = Field(
        default=32, description="Of a number under secure aggregation, where sums are of whole numbers."
    )
    largest: float = Field(
        default=16.0,
        gt=0,
        description="The largest number that can be summed so; a client with a larger one does not count.",
    )
    seed: Literal["run", "secret"] = Field(
        default="run",
        description="Where noise comes from: the run's seed, which whoever knows it can take away again (run); or the "
        "operating system, so that no run repeats another (secret).",
    )

    @property
    def from_server(self) -> bool:
        """Whether something is kept from the server, too, so that no client may tell it what its own data gives."""
        return self.mechanism == "local" or self.secure_aggregation
