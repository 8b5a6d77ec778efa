"""Measure one case in this process: meant to be the process's only work (see ``fresh``)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.params import Params
from spry.forward import call
from spry.measure.meter import Meter, release_lazily, release_promptly, settle, tensor_peak
from spry.profile.architectures import SHAPES, build, example
from spry.profile.case import Case, Row
from spry.profile.predict import predict
from spry.profile.steps import STEPS, Batch, Subject, inference, reference
from spry.profile.weight_bytes import resident

KEY = Key(0).fold("memory")
SLOW = 10.0
"""Seconds from which on a step is not repeated for a second opinion on its peak."""


def measure(case: Case) -> Row:
    """Measure the peak memory, time and accuracy of one method's step.

    The order is: build the model and take the peak with freed memory given back at once; then, with malloc as
    usual, the timed steps in alternation with inference; then the slopes against autograd.

    Args:
        case: What to measure.

    Returns:
        The row.
    """
    release_promptly()
    subject = prepare(case)
    step = partial(STEPS[case.method], subject)
    begun = time.perf_counter()
    slopes = step()  # warms up: libraries load their code and scratch on first use
    slow = time.perf_counter() - begun > SLOW
    start, peak = _peak(step, case.device, 1 if slow else 2)
    weights = resident(subject.model)
    counted = tensor_peak(step) if case.device == "cpu" and not slow else None
    release_lazily()
    steps, bases = _alternate(step, partial(inference, subject), case)
    return Row(
        case=case,
        peak_bytes_above_model=peak,
        total_peak_bytes=peak + (sum(weights.values()) if case.device == "cpu" else start),
        predicted_bytes=predict(case, subject.model),
        tensor_peak_bytes=counted,
        resident_bytes=weights,
        step_seconds=median(times.wall for times in steps),
        inference_seconds=median(times.wall for times in bases),
        time_ratio=median(s.wall / b.wall for s, b in zip(steps, bases, strict=True)),
        cpu_ratio=median(s.processor / b.processor for s, b in zip(steps, bases, strict=True)),
        slope_relative_error=None if slopes is None else _error(slopes, reference(subject)),
        timed=len(steps),
    )


def prepare(case: Case) -> Subject:
    """Build the model, the batch and the directions of a case.

    Args:
        case: What to measure.

    Returns:
        The subject.

    Raises:
        ConfigError: If the model is no shape.
    """
    if case.model not in SHAPES:
        raise ConfigError(f"{case.model!r} is not a shape")
    model = build(
        case.model,
        layers=case.layers,
        length=case.length,
        head=case.head,
        device=case.device,
        dtype=getattr(torch, case.dtype),
        four_bit=case.four_bit,
    )
    batch = example(model, case.batch, case.length)
    params = _slice(model, case.slice == "last")
    directions = [
        {name: KEY.fold(k).normal(name, tuple(weight.shape), weight) for name, weight in params.items()}
        for k in range(case.directions)
    ]
    rows = case.micro_batch or case.batch
    parts = [
        (len(labels) / case.batch, {name: values[start : start + rows] for name, values in batch.items()})
        for start, labels in enumerate_rows(batch["labels"], rows)
    ]
    return Subject(model=model, parts=parts, loss=_loss(model), params=params, directions=directions)


def enumerate_rows(values: Tensor, rows: int) -> list[tuple[int, Tensor]]:
    """Cut a tensor into pieces of at most ``rows`` rows.

    Args:
        values: Shape (B, ...).
        rows: At most this many rows a piece, >= 1.

    Returns:
        The first row's number and the piece, for each.
    """
    return [(start, values[start : start + rows]) for start in range(0, len(values), rows)]


def _slice(model: nn.Module, last: bool) -> Params:
    """Give the trained weights; the others are frozen, for every method alike."""
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    depth = {name: int(found[1]) for name in trained if (found := re.search(r"\.(\d+)\.", name))}
    top = max(depth.values(), default=0)
    kept = {name: w for name, w in trained.items() if not last or depth.get(name, top) == top}
    for name in trained.keys() - kept.keys():
        trained[name].requires_grad_(False)
    return kept


def _loss(model: nn.Module) -> Callable[[Params, Batch], Tensor]:
    def loss(params: Params, batch: Batch) -> Tensor:
        return call(model, params, **batch).loss

    return loss


class _Times(NamedTuple):
    wall: float
    processor: float


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
    """Memory in use between steps, and the peak of a step above it."""
    settle()
    meter = Meter(device)
    for _ in range(repeats):
        with meter.phase("step"):
            step()
    return meter.start_bytes, meter.peak_bytes


def _error(slopes: Tensor, exact: Tensor) -> float:
    return float((slopes - exact).norm() / exact.norm())
