"""Forward-mode differentiation of unmodified PyTorch models at about the memory of inference.

``jvp`` pushes K directions of the trained weights through a loss and gives its K slopes; ``Dual`` is the number that
travels, ``rule`` teaches it a function, ``watch`` tells which functions it had no rule for.
"""

from __future__ import annotations

from spry.forward import moves, rules  # registers them
from spry.forward.dropout import dropout
from spry.forward.dual import Dual
from spry.forward.functional import call, jvp
from spry.forward.registry import rule
from spry.forward.report import Report, watch

__all__ = ["Dual", "Report", "call", "dropout", "jvp", "moves", "rule", "rules", "watch"]
