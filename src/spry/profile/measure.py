"""Measures one case in this process, which should do nothing else (see ``subprocess``)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from spry.core.keys import Key
from spry.core.params import Params
from spry.estimators.blocks import Blocks
from spry.forward import call
from spry.measure.meter import Meter, release_lazily, release_promptly, release_unused, tensor_peak
from spry.measure.operations import OperationCounter
from spry.models.quantized.kinds import Quantization
from spry.models.residual_blocks import blocks_of_module
from spry.profile.case import GUESSED, Case, CaseResult
from spry.profile.case_task import model_class_of, outputs_of, task_batch, task_kind_of
from spry.profile.predict import has_formula, predict_peak
from spry.profile.random_model import build_model, example_batch
from spry.profile.steps import STEP_BY_METHOD, Inputs, Subject, divided, exact_slopes, inference_step
from spry.profile.weight_bytes import weight_bytes
from spry.tasks.kind import TaskKind
from spry.tasks.model_call import ModelCall

KEY = Key(0).fold("memory")
SLOW = 10.0
"""From this many seconds on, a step's peak is measured once instead of twice."""


def measure_case(case: Case) -> CaseResult:
    """Measure the peak memory, time and accuracy of one method's step.

    The order is: build the model and take the peak with freed memory given back at once; then, with malloc as
    usual, the timed steps in alternation with inference; then the slopes against autograd.
    """
    release_promptly()
    subject = build_subject(case)
    step = partial(STEP_BY_METHOD[case.method], subject)
    begun = time.perf_counter()
    slopes = step()  # warms up: libraries load their code and scratch on first use
    slow = time.perf_counter() - begun > SLOW
    start, peak = _peak(step, case.device, 1 if slow else 2)
    weights = weight_bytes(subject.model)
    counted = tensor_peak(step) if case.device == "cpu" and not slow else None
    with OperationCounter() as counter:
        step()
    release_lazily()
    times = _timed(step, partial(inference_step, subject), case) if case.repeats else {}
    return CaseResult(
        case=case,
        peak_bytes_above_model=peak,
        total_peak_bytes=peak + (sum(weights.values()) if case.device == "cpu" else start),
        predicted_bytes=predict_peak(case, subject.model) if has_formula(subject.model) else None,
        tensor_peak_bytes=counted,
        resident_bytes=weights,
        slope_relative_error=None if slopes is None else _error(slopes, exact_slopes(subject)),
        operations=counter.total,
        **times,
    )


def lay_out(case: Case) -> nn.Module:
    """Build a case's model without values, on the meta device: what cannot be built is refused here in a moment."""
    return _model(case, "meta", None)


def _model(case: Case, device: str, quantization: Quantization | None) -> nn.Module:
    return build_model(
        case.model,
        layers=case.layers,
        length=case.length,
        head=model_class_of(case),
        outputs=outputs_of(case),
        targets=case.targets,
        rank=case.rank,
        device=device,
        dtype=getattr(torch, case.dtype),
        quantization=quantization,
    )


def build_subject(case: Case) -> Subject:
    model = _model(case, case.device, case.quantization)
    kind, sizes = task_kind_of(case), (case.batch, case.length)
    batch = example_batch(model, *sizes) if kind is None else task_batch(kind, model, *sizes)
    params = _slice(model, case.slice == "last")
    directions = [
        {name: KEY.fold(k).normal(name, tuple(weight.shape), weight) for name, weight in params.items()}
        for k in range(case.directions)
    ]
    loss = _loss(model) if kind is None else _task_loss(kind, model)
    return Subject(
        model=model,
        parts=divided(1.0, batch, case.micro_batch or case.batch),
        loss=loss,
        plain=partial(loss, params) if kind is not None else lambda batch: cast(Any, model)(**batch).loss,
        params=params,
        directions=directions,
        blocks=_blocks(case.model, model) if case.method in GUESSED else None,
    )


def _blocks(name: str, model: nn.Module) -> Blocks:
    """Find the model's blocks by a short text of its own."""
    return blocks_of_module(name, model, example_batch(model, 2, 5)["input_ids"])


def _slice(model: nn.Module, last: bool) -> Params:
    """Freeze all weights that the slice does not train, and return the others."""
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    depth = {name: int(found[1]) for name in trained if (found := re.search(r"\.(\d+)\.", name))}
    top = max(depth.values(), default=0)
    kept = {name: w for name, w in trained.items() if not last or depth.get(name, top) == top}
    for name in trained.keys() - kept.keys():
        trained[name].requires_grad_(False)
    return kept


def _loss(model: nn.Module) -> Callable[[Params, Inputs], Tensor]:
    def loss(params: Params, batch: Inputs) -> Tensor:
        return call(model, params, **batch).loss

    return loss


def _task_loss(kind: TaskKind, model: nn.Module) -> Callable[[Params, Inputs], Tensor]:
    device = next(model.parameters()).device

    def loss(params: Params, batch: Inputs) -> Tensor:
        call = ModelCall(module=model, device=device, params=params, unread=kind.unread)
        return kind.loss(call, batch, "mean")

    return loss


class _Times(NamedTuple):
    wall: float
    processor: float


def _timed(step: Callable[[], object], base: Callable[[], object], case: Case) -> dict[str, Any]:
    """The fields of a row that tell times."""
    steps, bases = _alternate(step, base, case)
    return {
        "step_seconds": median(times.wall for times in steps),
        "inference_seconds": median(times.wall for times in bases),
        "time_ratio": median(s.wall / b.wall for s, b in zip(steps, bases, strict=True)),
        "cpu_ratio": median(s.processor / b.processor for s, b in zip(steps, bases, strict=True)),
        "timed": len(steps),
    }


def _alternate(
    step: Callable[[], object], base: Callable[[], object], case: Case
) -> tuple[list[_Times], list[_Times]]:
    """Time two steps in turn, so that whatever slows the machine slows both."""
    base()
    begun = time.perf_counter()
    steps, bases = [], []
    while len(steps) < case.repeats and (not steps or time.perf_counter() - begun < case.seconds):
        bases.append(_time(base, case.device))
        steps.append(_time(step, case.device))
    return steps, bases


def _time(step: Callable[[], object], device: str) -> _Times:
    meter, begun = Meter(device), time.process_time()
    with meter.phase("step"):
        step()
    return _Times(meter.seconds, time.process_time() - begun)


def _peak(step: Callable[[], object], device: str, repeats: int) -> tuple[int, int]:
    """Bytes in use between steps, and the peak of a step above them."""
    release_unused()
    meter = Meter(device)
    for _ in range(repeats):
        with meter.phase("step"):
            step()
    return meter.start_bytes, meter.peak_bytes


def _error(slopes: Tensor, exact: Tensor) -> float:
    return float((slopes - exact).norm() / exact.norm())
