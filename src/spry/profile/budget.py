"""Which methods fit into a memory budget: the largest micro-batch by prediction, confirmed by measurement."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

import torch

from spry.core.errors import ConfigError
from spry.profile.case import Case, CaseResult, MeasuredMethod, Slice
from spry.profile.measure import lay_out
from spry.profile.predict import predict_peak
from spry.profile.subprocess import measure_in_subprocess
from spry.profile.weight_bytes import weight_bytes

_UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Whether one method and slice fits.

    Args:
        micro_batch: The largest number of rows at once that fits by the prediction, up to the batch; 0 if none does.
        predicted_bytes: Predicted total: weights and the step's peak, with that micro-batch (with one row, if none).
        fits: Whether it fits: by the measurement if there is one, else by the prediction.
    """

    method: MeasuredMethod
    slice: Slice
    micro_batch: int
    predicted_bytes: int
    measured_bytes: int | None = None
    fits: bool = False
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def parse_bytes(text: str) -> int:
    """Read a size such as ``2GB`` or ``500 MB`` (powers of 1000) or ``1.5GiB`` (of 1024).

    >>> parse_bytes("2GB"), parse_bytes("1.5 MiB")
    (2000000000, 1572864)
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kmg]i?)?b?\s*", text, re.IGNORECASE)
    if not found or not float(found[1]):
        raise ConfigError(
            f"{text!r} is no amount of memory; write a number with a unit, such as 500MB, 2GB or 1.5GiB"
        )
    return int(float(found[1]) * _UNITS[(found[2] or "").upper()])


def what_fits(
    case: Case, budget: int, methods: Sequence[MeasuredMethod], *, measured: bool = True
) -> Iterator[Fit]:
    """Find each method's largest micro-batch with which the weights and one step fit: of all layers, and of the last.

    The case's own method, slice and micro-batch are ignored. If ``measured``, each micro-batch is confirmed in a
    fresh process; one that turns out too large is halved and measured again.
    """
    layout = lay_out(case)
    weights = sum(weight_bytes(layout, quantization=case.quantization).values())
    for method in methods:
        for part in get_args(Slice):
            if part == "last" and method in {"inference", "fedmezo", "forward-ad"}:
                continue
            tried = replace(case, method=method, slice=part, repeats=1, seconds=0.0)
            rows = _largest(tried, budget - weights, layout)
            fit = Fit(
                method=method,
                slice=part,
                micro_batch=rows,
                predicted_bytes=weights + predict_peak(replace(tried, micro_batch=rows or 1), layout),
                fits=rows > 0,
            )
            yield _confirm(fit, tried, budget) if measured and rows else fit


def resident_bytes(case: Case) -> int:
    """Bytes of a case's weights and buffers, without building it."""
    return sum(weight_bytes(lay_out(case), quantization=case.quantization).values())


def _largest(case: Case, room: int, layout: torch.nn.Module) -> int:
    """The largest micro-batch whose predicted peak fits, 0 if none; the prediction grows with the rows."""
    low, high = 0, case.batch
    while low < high:
        middle = (low + high + 1) // 2
        if predict_peak(replace(case, micro_batch=middle), layout) <= room:
            low = middle
        else:
            high = middle - 1
    return low


def _confirm(fit: Fit, case: Case, budget: int) -> Fit:
    rows = fit.micro_batch
    while rows:
        row: CaseResult = measure_in_subprocess(replace(case, batch=rows, micro_batch=None))
        fit = replace(fit, measured_bytes=row.total_peak_bytes, error=row.error, fits=False)
        if row.total_peak_bytes is not None and row.total_peak_bytes <= budget:
            return replace(fit, micro_batch=rows, fits=True)
        rows //= 2
    return replace(fit, micro_batch=0)
