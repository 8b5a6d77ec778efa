"""Row-wise programs: results whose rows are computed a few at a time, when something reads them."""

from __future__ import annotations

from spry.forward.lazy import rules, views  # registers their lazy rules

__all__ = ["rules", "views"]
