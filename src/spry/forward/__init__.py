"""Forward-mode differentiation of unmodified PyTorch models at about the memory of inference.

``jvp`` pushes K directions of the trained weights through a loss and returns its K slopes. ``Dual`` is the number that
travels. ``rule`` teaches it a PyTorch function, ``register_custom_op`` an operator of another package, known by name.
``track_fallbacks`` counts the functions that have no rule.
"""

from __future__ import annotations

from spry.forward import dispatch, lazy, rules  # what they register makes Dual work
from spry.forward.custom_ops import register_custom_op
from spry.forward.diagnostics import FallbackReport, track_fallbacks
from spry.forward.dropout import dropout
from spry.forward.dual import Dual
from spry.forward.functional import call, jvp, row_slopes
from spry.forward.registry import rule

__all__ = [
    "Dual",
    "FallbackReport",
    "call",
    "dispatch",
    "dropout",
    "jvp",
    "lazy",
    "register_custom_op",
    "row_slopes",
    "rule",
    "rules",
    "track_fallbacks",
]
