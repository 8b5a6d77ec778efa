"""How much memory and time a method takes on a model: measured in fresh processes, and predicted."""

from __future__ import annotations

from spry.profile.budget import Fit, fits, parse_bytes
from spry.profile.case import METHODS, Case, Method, Row
from spry.profile.subprocess import measure_all, measure_fresh

__all__ = ["METHODS", "Case", "Fit", "Method", "Row", "fits", "measure_all", "measure_fresh", "parse_bytes"]
