"""What the last map of a head can be fitted to in closed form."""

from __future__ import annotations

from enum import StrEnum


class HeadFit(StrEnum):
    """The labels of a batch, from which a closed form follows."""

    CLASSES = "classes"
    """One class an example, shape (B,)."""
    LABELS = "labels"
    """0 or 1 for each label, shape (B, C)."""
    NUMBERS = "numbers"
    """A number an example, shape (B,), or several, shape (B, C)."""
