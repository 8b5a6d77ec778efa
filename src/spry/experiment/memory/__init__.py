"""How much memory and time a method takes on a model: measured in fresh processes, and predicted."""

from __future__ import annotations

from spry.experiment.memory.budget import Fit, fits, parse_bytes
from spry.experiment.memory.case import METHODS, Case, Method, Row
from spry.experiment.memory.fresh import measure_all, measure_fresh

__all__ = ["METHODS", "Case", "Fit", "Method", "Row", "fits", "measure_all", "measure_fresh", "parse_bytes"]
