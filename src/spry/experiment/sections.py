"""The tables of a configuration: what can be set, what it means, and what it is if nothing is said."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from spry.core.errors import nearest
from spry.federated.methods import METHODS


class Section(BaseModel):
    """A table of the configuration: frozen, typed, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Model(Section):
    """Which model, and how it is run."""

    name: str = Field(default="minilm", description="A friendly name, a folder, package:NAME, or a hub name.")
    dtype: Literal["float32", "bfloat16", "float16", "float64"] = "float32"
    device: str = Field(default="cpu", description="cpu, cuda or cuda:N.")
    max_length: int = Field(default=64, ge=1, description="Tokens after which a text is cut.")
    dropout: bool = Field(
        default=False, description="Whether the model's dropout acts in training, for every method alike."
    )


class Peft(Section):
    """Which weights are trained."""

    kind: Literal["lora", "lora_a", "lora_xs", "vera", "ia3", "bitfit", "norm"] = Field(
        default="lora",
        description="lora; lora_a: its A alone, with B frozen (basis); lora_xs: a square "
        "matrix between singular vectors; vera; ia3; bitfit: all biases; norm: weights and biases of norms.",
    )
    rank: int = Field(default=1, ge=1, description="Of lora, lora_a, lora_xs and vera.")
    alpha: float = Field(default=1.0, gt=0, description="Scale of lora, lora_a and lora_xs.")
    basis: Literal["weight", "gradient"] = Field(
        default="weight",
        description="Where lora_a's frozen B lies: along singular vectors of the weight, or along gradients by the "
        "layer's output on random text, which let A learn more and let noise do more harm.",
    )
    dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Chance that an input of A is dropped, where model.dropout is on.",
    )
    targets: list[str] = Field(default=[], description="Modules to adapt; found by themselves if empty.")
    head: Literal["layer", "top", "block"] = Field(
        default="layer",
        description="The classification layer; top: with it adapters of the maps above the last attention, which a "
        "single position of a text passes, so that their exact gradient takes little memory; block: with those of the "
        "last attention too, which has a single query (lora, lora_a, lora_xs).",
    )


class Data(Section):
    """Which text, and how it lies with the clients."""

    name: str = Field(default="tweets", description="A built-in data set, a file, or a hub name.")
    test: str | None = Field(default=None, description="A file with the test split, where name is a file.")
    test_examples: int | None = Field(
        default=None, ge=1, description="At most so many test examples; all if unset."
    )
    text: list[str] = Field(
        default=["text"], min_length=1, max_length=2, description="One text column, or a pair."
    )
    label: str = "label"
    partition: Literal["iid", "dirichlet", "column"] = "dirichlet"
    alpha: float = Field(default=1.0, gt=0, description="Dirichlet's concentration: small is uneven.")
    column: str | None = Field(
        default=None, description="The column of natural client ids, for partition = column."
    )
    clients: int = Field(default=100, ge=1)
    held_out: float = Field(
        default=0.2, ge=0, lt=1, description="Share of each client's examples kept for evaluation."
    )
    validation: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the training part that is tested on in place of the test part, as tuning does.",
    )


class Method(Section):
    """Which algorithm."""

    name: str = "spry"
    estimator: Literal["auto", "weight", "activation"] = Field(
        default="weight",
        description="What forward mode moves: weights, outputs of maps, or whichever is predicted to err less.",
    )
    amplitudes: Literal["calibrated", "equal"] = Field(
        default="calibrated",
        description="How far activation directions move which tokens: measured on random text.",
    )
    tied: bool = Field(
        default=False,
        description="Whether activation directions move the tokens between the first and the last of a text together: "
        "biased, for errors several times smaller.",
    )
    directions: Literal["gaussian", "rademacher", "orthogonal", "basis"] = Field(
        default="gaussian",
        description="How directions are drawn; the last two depend on each other and lower the error to d/K - 1.",
    )
    count: int = Field(default=1, ge=1, description="K, directions per step.")
    count_growth: int = Field(
        default=1,
        ge=1,
        description="What each phase of schedule.phases multiplies K by: with 2 it is 1, 2, 4.",
    )
    sleep: bool = Field(
        default=True,
        description="Whether methods with directions leave weights out while their gradient is known to be zero, as "
        "LoRA's A is while B is zero.",
    )
    count_max: int | None = Field(
        default=None,
        ge=1,
        description="Largest K of a client: shares the round's directions out by the noise of slices, K on average "
        "staying method.count; off if unset. Not of fwdllm, which has its own pacing.",
    )
    control_variate: Literal["none", "previous", "guided"] = Field(
        default="none",
        description="How past aggregates take noise away: subtracted (previous; of methods whose clients do not step), "
        "or as one of the directions (guided).",
    )
    pool: int | None = Field(
        default=None,
        ge=1,
        description="Candidates for each direction, of which those most aligned to past aggregates are kept: biased; "
        "the method's own if unset.",
    )
    control_decay: float = Field(
        default=0.9,
        ge=0,
        lt=1,
        description="Decay of the running means of aggregates that this and count_max go by.",
    )
    difference: Literal["forward", "central"] | None = Field(
        default=None, description="Which finite difference, for baffle; the method's own if unset."
    )
    h: float | None = Field(
        default=None, gt=0, description="Step of finite differences; the method's own if unset."
    )
    threshold: float = Field(default=0.1, gt=0, description="Variance below which fwdllm's server steps.")
    checkpoint: bool = Field(default=True, description="Whether backpropagation recomputes activations.")
    exact_head: bool = Field(
        default=True, description="Whether the head's gradient is taken exactly instead of perturbed."
    )
    slopes_only: bool = Field(
        default=False,
        description="Whether clients send slopes, which the server replays, instead of weights.",
    )
    downlink: Literal["weights", "slopes"] = Field(
        default="weights",
        description="What clients are sent: all weights, or the slopes since the round they know if that is less.",
    )
    split: Literal["cyclic", "contiguous", "everything"] | None = Field(
        default=None, description="Who trains what; the method's own if unset."
    )
    budgets: list[float] = Field(
        default=[],
        description="Largest share of the weights a client may train, dealt to clients in turn; replaces split.",
    )

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in METHODS:
            raise ValueError(f"there is no such method. {nearest(name, METHODS)}")
        return name


class Client(Section):
    """How a client trains."""

    optimizer: str | None = Field(default=None, description="The method's own if unset.")
    lr: float | None = Field(default=None, gt=0)
    guard: float | None = Field(
        default=None,
        ge=1,
        description="Shortens a client's gradients of more than so many times their median norm in this round, and "
        "leaves out what is not finite; biased, and of no use to methods whose clients do not step; off if unset.",
    )
    batch_size: int = Field(default=8, ge=1)
    batch_growth: int = Field(
        default=1,
        ge=1,
        description="What each phase of schedule.phases multiplies the batch by: with 2 it is 8, 16, 32.",
    )
    micro_batch_size: int | None = Field(
        default=None, ge=1, description="Examples in memory at once; the batch if unset."
    )
    epochs: int = Field(default=1, ge=1)
    steps: int | None = Field(default=None, ge=1, description="Local steps a round, instead of epochs.")


class Server(Section):
    """How the server steps."""

    optimizer: str | None = Field(default=None, description="The method's own if unset.")
    lr: float | None = Field(default=None, gt=0)
    average: float = Field(
        default=0,
        ge=0,
        lt=1,
        description="Decay of the running mean of the server's weights that is evaluated and kept, such as 0.75 for "
        "the last four rounds or so; 0 takes the last weights. Training is the same.",
    )


class Schedule(Section):
    """How long, how many, how often."""

    rounds: int = Field(default=30, ge=0)
    phases: int = Field(
        default=3, ge=1, description="Parts of equal length that the rounds have, for what grows over them."
    )
    clients_per_round: int = Field(default=10, ge=1)
    evaluate_every: int = Field(default=5, ge=1)
    checkpoint_every: int = Field(default=5, ge=1)
    personalized: bool = True


class Tune(Section):
    """How a comparison chooses settings for each method, on a validation part, before it compares."""

    grid: dict[str, Any] = Field(
        default={},
        description="Values to try by setting, or by lr: the step size of whoever steps. Nothing is tuned if empty.",
    )
    methods: dict[str, dict[str, Any]] = Field(
        default={}, description="Grids that replace it for single methods, each of as many points."
    )
    rounds: int | None = Field(
        default=None, ge=1, description="Rounds a point is tried; as compared if unset."
    )
    seed: int = Field(default=100, description="The seed of all trials, apart from those compared.")
    validation: float = Field(
        default=0.1, gt=0, lt=1, description="Share of the training part that trials are judged on."
    )
