"""Measures and predicts the memory and time of a training step; checks the engine on a model."""

from __future__ import annotations

from spry.profile.budget import Fit, parse_bytes, what_fits
from spry.profile.case import MEASURED_METHODS, Case, CaseResult, MeasuredMethod
from spry.profile.subprocess import measure_all, measure_in_subprocess

__all__ = [
    "MEASURED_METHODS",
    "Case",
    "CaseResult",
    "Fit",
    "MeasuredMethod",
    "measure_all",
    "measure_in_subprocess",
    "parse_bytes",
    "what_fits",
]  # fmt: skip
