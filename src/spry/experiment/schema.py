"""The tables of a configuration: what can be set, what it means, and what it is if nothing is said.

A method's own options stand in its class (``federated/methods``), and are validated by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from spry.experiment.retired import RETIRED_METHODS
from spry.federated.methods import MethodInfo, Options, find_method
from spry.tasks.kinds import TASKS, make_task

AUTO = "auto"
"""Lets the labels say which task it is."""


class Settings(BaseModel):
    """A table of the configuration: frozen, typed, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)


class TaskSettings(BaseModel):
    """What is learnt, and the options that this task has."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    name: str = Field(
        default=AUTO,
        description="auto, which takes lists for multi-label and other labels for classes; "
        + "".join(f"{name}: {kind.about}; " for name, kind in TASKS.items())
        + "or a plugin's.",
    )

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        """Write out all options of the task, so that a configuration says everything that a run depends on."""
        if not isinstance(given, Mapping):
            return given
        options = dict(given)
        name = str(options.pop("name", AUTO))
        if name != AUTO:
            return {"name": name, **make_task(name, options).options}
        if options:
            raise ValueError(
                f"task.{next(iter(options))} is of one task: set task.name, too, such as multi-label"
            )
        return {"name": AUTO}


class ModelSettings(Settings):
    """Which model, and how it is run."""

    name: str = Field(default="minilm", description="A friendly name, a folder, package:NAME, or a hub name.")
    dtype: Literal["float32", "bfloat16", "float16", "float64"] = Field(
        default="float32", description="Of the frozen weights; trained ones are float32 or wider."
    )
    quantization: Literal["nf4", "int8", "int4"] | None = Field(
        default=None,
        description="How the frozen linear layers are packed: nf4 or int8 by bitsandbytes, int4 by torchao on the cpu; "
        "as the checkpoint has them if unset.",
    )
    offload: Literal["disk"] | None = Field(
        default=None,
        description="Where the frozen weights stay: disk leaves them in their safetensors files, read block by block; "
        "in memory if unset.",
    )
    device: str = Field(default="cpu", description="cpu, cuda or cuda:N.")
    max_length: int | None = Field(
        default=None,
        ge=1,
        description="Tokens after which a text is cut; what 95 % of the training texts need if unset.",
    )
    dropout: bool = Field(
        default=False, description="Whether the model's dropout acts in training, for every method alike."
    )


class PeftSettings(Settings):
    """Which weights are trained."""

    kind: str = Field(
        default="lora",
        description="lora; rslora: its scale is alpha / sqrt(rank); dora: lengths of rows apart; vera; ia3; bitfit: "
        "all biases; norm: weights and biases of norms; head: the classifier's own layers alone; or a plugin's.",
    )
    rank: int = Field(default=1, ge=1, description="Of kinds of low rank.")
    alpha: float = Field(default=1.0, gt=0, description="Scale of lora, rslora and dora.")
    rank_pattern: dict[str, int] = Field(
        default={},
        description="Ranks of modules whose rank is another, by endings of their names or regular expressions, as peft "
        "reads them (lora, rslora, dora).",
    )
    alpha_pattern: dict[str, float] = Field(default={}, description="Values of alpha likewise.")
    dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Chance that an input of A is dropped, where model.dropout is on.",
    )
    targets: list[str] = Field(
        default=[],
        description="Modules to adapt, by endings of their names; for lora, rslora and dora embeddings, too. Found by "
        "themselves if empty.",
    )
    exact: Literal["head", "last_block", "auto", "nothing"] = Field(
        default="head",
        description="What gets exact gradients from methods that measure slopes: the head; with it the adapters of "
        "the last block, whose attention has a single query a text (lora); the latter where model and adapter have "
        "that, else the head (auto); or nothing, so that the head is perturbed.",
    )


class HeadSettings(Settings):
    """What the head is before round 1."""

    start: Literal["closed-form", "auto", "drawn"] = Field(
        default="drawn",
        description="Fitted in closed form to sums that every client takes over its examples once (closed-form); the "
        "same where the head ends in a linear map, holds nothing yet, and learns classes that all have examples, "
        "labels or numbers, else as it is (auto); or as the model has it, at random where it has none (drawn).",
    )
    features: int | None = Field(
        default=None,
        ge=1,
        description="Random combinations of the head's inputs that are summed up; if unset all inputs up to 1024, and "
        "1024 combinations of more.",
    )
    clients: int | None = Field(
        default=None,
        ge=1,
        description="Clients, chosen at random, that take the sums, and more if these lack a class; all if unset or "
        "fewer.",
    )


class DataSettings(Settings):
    """Which text, and how it lies with the clients."""

    name: str = Field(
        default="tweets",
        description="A built-in data set, a file, or a hub name; a file's may begin with ~ or a variable of the "
        "environment, as $SPRY_DATA/reviews.csv does.",
    )
    subset: str | None = Field(
        default=None, description="Which data set, where the Hub has several under a name: mrpc of glue."
    )
    test: str | None = Field(
        default=None,
        description="The test part: a file where name is one, the name of a part where it is of the Hub.",
    )
    test_examples: int | None = Field(
        default=None,
        ge=1,
        description="At most so many test examples, and as many for validation; all if unset.",
    )
    text: list[str] = Field(
        default=["text"],
        min_length=1,
        max_length=3,
        description="One text column, or a pair; question and context for question-answering, passage, question and "
        "answer for multi-answer, unless others are named.",
    )
    label: str = Field(default="label", description="The column of labels.")
    encoding: str | None = Field(
        default=None, description="Of text files, such as cp1252; UTF-8, or UTF-16 with its mark, if unset."
    )
    separator: str | None = Field(
        default=None, description="Between cells: a character, or tab; found if unset."
    )
    blank: Literal["error", "skip"] = Field(
        default="error",
        description="Whether empty texts, labels and ids are refused, or their rows left out.",
    )
    partition: Literal["iid", "dirichlet", "column"] = Field(
        default="dirichlet", description="How examples are dealt to clients: alike, by class, or by a column."
    )
    alpha: float = Field(default=1.0, gt=0, description="Dirichlet's concentration: small is uneven.")
    column: str | None = Field(
        default=None, description="The column of natural client ids, for partition = column."
    )
    clients: int | None = Field(
        default=None,
        ge=1,
        description="How many there are; if unset 100, or fewer so that each has about a batch of examples; a column "
        "has its own.",
    )
    held_out: float = Field(
        default=0.2, ge=0, lt=1, description="Share of each client's examples kept for evaluation."
    )
    validation: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the training part held out to choose by, and evaluated whenever the test part is; 0.1 if "
        "schedule.keep or schedule.patience needs it and nothing is said.",
    )


class MethodSettings(BaseModel):
    """Which algorithm, and the options that this algorithm has."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())

    name: str = Field(default="spry", description="See `spry methods`.")

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        """Write out all options of the method, so that a configuration says everything that a run depends on."""
        if not isinstance(given, Mapping):
            return given
        options = dict(given)
        name = str(options.pop("name", "spry"))
        if name in RETIRED_METHODS:
            raise ValueError(f"there is no method {name!r} any more: {RETIRED_METHODS[name]}")
        return {"name": name, **asdict(find_method(name).parse(options))}

    @property
    def info(self) -> MethodInfo:
        return find_method(self.name)

    @property
    def options(self) -> Options:
        return self.info.parse(self.model_extra or {})


class ClientSettings(Settings):
    """How a client trains."""

    optimizer: str | None = Field(default=None, description="The method's own if unset.")
    lr: float | None = Field(default=None, gt=0, description="Step size; the method's own if unset.")
    clip: float | None = Field(
        default=None, gt=0, description="Norm to which a client's update is shortened; off if unset."
    )
    batch_size: int = Field(default=8, ge=1, description="Examples of a local step.")
    micro_batch_size: int | None = Field(
        default=None, ge=1, description="Examples in memory at once; the batch if unset."
    )
    epochs: int = Field(default=1, ge=1, description="Passes over a client's examples in a round.")
    steps: int | None = Field(default=None, ge=1, description="Local steps a round, instead of epochs.")


class ServerSettings(Settings):
    """How the server steps, and what it sends."""

    optimizer: str | None = Field(default=None, description="The method's own if unset.")
    lr: float | None = Field(default=None, gt=0, description="Step size; the method's own if unset.")
    ema: float = Field(
        default=0,
        ge=0,
        lt=1,
        description="Decay of the running mean of the server's weights that is evaluated and kept, such as 0.75 for "
        "the last four rounds or so; 0 takes the last weights. Training is the same.",
    )
    send: Literal["weights", "slopes"] = Field(
        default="weights",
        description="What clients are sent: all weights, or the slopes since the round they know if that is less.",
    )
    aggregate: Literal["mean", "trimmed-mean", "median"] = Field(
        default="mean",
        description="How a weight's replies are united: the mean by examples; or, against a few wrong clients and with "
        "each owner alike, the mean without those at both ends, or the median, element by element.",
    )
    trim: float = Field(
        default=0.2,
        gt=0,
        lt=0.5,
        description="Share of a weight's owners that trimmed-mean leaves out at each end.",
    )
    clip: float | None = Field(
        default=None,
        gt=0,
        description="Norm to which the server shortens each reply, as client.clip does at clients that can be trusted; "
        "off if unset.",
    )


class StepFactorSettings(Settings):
    """Factors on the step size of whoever steps, by group of weights; an adaptive server evens out those of clients."""

    head: float | Literal["auto"] = Field(
        default="auto",
        description="Of the task's own layers, >= 0; 0 keeps them at their start, and clients do not send them back. "
        "auto: 0 where the head starts in closed form and the method trains anything else, else 1.",
    )
    exact: float = Field(
        default=1.0,
        ge=0,
        description="Of the last block's adapters, where peft.exact lets every client train them; 0 likewise.",
    )
    body: float = Field(default=1.0, ge=0, description="Of all other adapters; 0 likewise.")

    @field_validator("head")
    @classmethod
    def _at_least_zero(cls, head: float | str) -> float | str:
        if isinstance(head, float) and head < 0:
            raise ValueError("it must be at least 0, or auto")
        return head

    def by_group(self, *, closed_form: bool = False) -> dict[str, float]:
        """The factors as numbers, where the head starts in closed form, or not."""
        auto = 0.0 if closed_form else 1.0
        return {"head": auto if self.head == "auto" else self.head, "exact": self.exact, "body": self.body}


class ScheduleSettings(Settings):
    """How long, how many, how often."""

    rounds: int = Field(default=30, ge=0, description="Rounds of the run.")
    decay: Literal["none", "linear"] = Field(
        default="none",
        description="Whether the step size lr of whoever steps stays, or falls linearly from lr in the first of R "
        "rounds to lr / R in the last; such a run keeps its number of rounds.",
    )
    clients_per_round: int | None = Field(
        default=None,
        ge=1,
        description="Clients asked in a round; if unset 10, or all of them where fewer have examples.",
    )
    evaluate_every: int = Field(default=5, ge=1, description="Rounds from one evaluation to the next.")
    checkpoint_every: int = Field(
        default=5, ge=1, description="Rounds from one checkpoint to the next; more are lost to a crash."
    )
    personalized: bool = Field(
        default=True, description="Whether each client's model is evaluated after local training, too."
    )
    local_tuning: int = Field(
        default=0,
        ge=0,
        description="Local steps that every client takes from the final weights after the last round, apart from "
        "training: each client's score before and after them is reported; 0 for none.",
    )
    evaluate_start: bool = Field(
        default=True, description="Whether the model is evaluated before round 1, too, where curves begin."
    )
    test: bool = Field(
        default=True, description="Whether the test part is evaluated; trials of tuning leave it alone."
    )
    keep: Literal["last", "best"] = Field(
        default="last",
        description="Which round's weights are kept: the last one's, or those with the best validation score.",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="Evaluations without a better validation score after which the run ends; never if unset.",
    )

    @property
    def chooses(self) -> bool:
        """Whether something depends on the validation score."""
        return self.keep == "best" or self.patience is not None


class TuneSettings(Settings):
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
    validation: float = Field(
        default=0.1, gt=0, lt=1, description="Share of the training part that trials are judged on."
    )
