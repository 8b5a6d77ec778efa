"""The analytic model."""

from __future__ import annotations

from typing import Any

from spry.experiment.memory.case import Case


def predict(case: Case, config: Any) -> int | None:
    """Predict (to come)."""
    return None
