"""What a task is judged by; free of torch, so that a report can be written without it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

SHARES = frozenset(
    ["accuracy", "balanced_accuracy", "exact_match", "f1", "f1a", "macro_f1", "micro_f1", "token_accuracy"]
    + [f"{part}_{score}" for part in ("has_answer", "no_answer") for score in ("exact_match", "f1")]
)
"""Scores that are shares of 1, and so are written in percent; all others are written as they are."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a task is judged by.

    Args:
        name: Such as accuracy.
        higher_is_better: Which way is up.
        baseline: The score on the test part of an answer that needs no training; None if there is none.
    """

    name: str
    higher_is_better: bool = True
    baseline: float | None = None

    @classmethod
    def of_summary(cls, summary: Mapping[str, Any]) -> Score:
        """Read the score from ``summary.json``; before schema 2 every run was judged by its accuracy."""
        if "score" in summary:
            return cls(**summary["score"])
        return cls(name="accuracy", baseline=summary.get("majority_accuracy"))

    def key(self, part: str) -> str:
        """Under which name logs and summaries have it for a part: test, validation, generalized or personalized."""
        return f"{part}_{self.name}"

    @staticmethod
    def of_key(key: str) -> tuple[str, str]:
        """Read such a name: the part, and the score on it."""
        part, _, score = key.partition("_")
        return part, score

    def better(self, new: float, old: float) -> bool:
        return new > old if self.higher_is_better else new < old

    def reaches(self, value: float, target: float) -> bool:
        return value == target or self.better(value, target)

    def best(self, values: Iterable[float]) -> float | None:
        return (max if self.higher_is_better else min)(values, default=None)
