"""One case to measure, and the row that comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from spry.core.errors import ConfigError, nearest
from spry.models.quantized.kinds import Quantization

MeasuredMethod = Literal[
    "inference",
    "spry",
    "residual",
    "residual-2-blocks",
    "residual-full",
    "backprop",
    "backprop+checkpointing",
    "mesp",
    "fedmezo",
    "forward-ad",
]
MEASURED_METHODS: tuple[MeasuredMethod, ...] = get_args(MeasuredMethod)
GUESSED: frozenset[MeasuredMethod] = frozenset({"residual", "residual-2-blocks", "residual-full"})
"""Methods that need residual blocks."""
Slice = Literal["all", "last"]
HeadKind = Literal["classification", "causal-lm"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One method on one model and batch.

    Args:
        model: What ``resolve_model`` understands: one's own model, whose weights are then random, or a shape.
        method: How the slope or gradient is computed; ``inference`` computes the loss alone. ``residual`` is the
            guess ``identity`` for all blocks, or for two a step, ``residual-full`` the exact gradient of all.
            ``backprop`` and ``inference`` are stock PyTorch with fused attention, ``backprop+checkpointing`` the
            non-reentrant kind, ``mesp`` is that with LoRA's projections computed again, ``forward-ad`` is
            ``torch.func.jvp`` over the eager model.
        batch: Rows B of a batch, >= 1.
        length: Tokens S of a row, >= 1.
        micro_batch: Rows run at once, for every method alike; None for the whole batch.
        directions: K, for the methods with slopes, >= 1.
        slice: Which LoRA weights are trained: of all layers, or of the last one; the head always.
        layers: Depth; None for the model's own.
        targets: Names or endings of names of the modules that LoRA is put on; none finds them.
        head: The head of a model that computes its loss itself; not asked where there is a task.
        task: What is learnt, as ``task.name`` calls it, by the task's own loss for every method: that of a language
            model makes the logits by tiles. None leaves the loss to the model.
        dtype: Of weights and arithmetic, as torch names it.
        quantization: How the linear layers are packed; None leaves them as they are.
        device: Where it runs.
        rank: LoRA's r, >= 1.
        repeats: Most timed steps; fewer where steps are slow. With 0 no time is measured.
        seconds: Time after which no further repeat is begun.
    """

    model: str
    method: MeasuredMethod
    batch: int = 8
    length: int = 512
    micro_batch: int | None = None
    directions: int = 1
    slice: Slice = "all"
    layers: int | None = None
    targets: Sequence[str] = ()
    head: HeadKind = "classification"
    task: str | None = None
    dtype: str = "float32"
    quantization: Quantization | None = None
    device: str = "cpu"
    rank: int = 1
    repeats: int = 5
    seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.method not in MEASURED_METHODS:
            raise ConfigError(
                f"no method is called {self.method!r}. {nearest(self.method, MEASURED_METHODS)}"
            )
        for name in ("batch", "length", "directions", "rank"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.repeats < 0:
            raise ConfigError(f"repeats is {self.repeats}; it must be at least 0, for no times")


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """What one case took, measured in a fresh process.

    Args:
        case: What was measured.
        peak_bytes_above_model: Highest memory during a step, above what is resident between steps.
        total_peak_bytes: The same with what is resident: weights, buffers and, on CUDA, the libraries' workspaces.
        predicted_bytes: ``peak_bytes_above_model`` by the analytic model; None where it has no formula.
        tensor_peak_bytes: The same counted from torch's allocations alone; None on CUDA and for slow steps.
        resident_bytes: Bytes of the weights and buffers, by category.
        step_seconds: Median time of a step.
        inference_seconds: Median time of a loss under ``no_grad``, its repeats alternating with the step's.
        time_ratio: Median of the ratios of neighbouring step and inference times.
        cpu_ratio: The same of the processor times of this process: less disturbed by others on the machine.
        slope_relative_error: ``|s - <g, v>| / |<g, v>|`` with autograd's gradient g, over the K slopes.
        operations: Floating-point operations of a step's matrix products, attention and convolutions.
        timed: How many steps were timed.
        error: Why there is no measurement; None if there is one.
    """

    case: Case
    peak_bytes_above_model: int | None = None
    total_peak_bytes: int | None = None
    predicted_bytes: int | None = None
    tensor_peak_bytes: int | None = None
    resident_bytes: Mapping[str, int] = field(default_factory=dict)
    step_seconds: float | None = None
    inference_seconds: float | None = None
    time_ratio: float | None = None
    cpu_ratio: float | None = None
    slope_relative_error: float | None = None
    operations: int | None = None
    timed: int = 0
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Flatten into one record: the case's settings, its model under ``shape``, and the measurements."""
        record = asdict(self)
        settings = record.pop("case")
        return {"shape": settings.pop("model"), **settings, **record}

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> CaseResult:
        values = dict(record)
        settings = {"model": values.pop("shape")}
        if values.pop("four_bit", False):  # as rows of version 0.1 say
            settings["quantization"] = "nf4"
        if values.pop("tiled", False):  # as rows said before a case had a task
            settings["task"] = "causal-lm"
        settings |= {name: values.pop(name) for name in Case.__dataclass_fields__ if name in values}
        return CaseResult(case=Case(**settings), **values)
