"""A score as it is written wherever it is shown: its name, its value and its unit.

Shares of 1 are written in percent, all other scores as they are.
"""

from __future__ import annotations

import math

from spry.tasks.score import SHARES, Score

NONE = "–"
"""What stands for a number that is not known."""


def score_factor(score: str) -> float:
    """What a score's value is multiplied by before it is shown."""
    return 100.0 if score in SHARES else 1.0


def score_value(value: float | None, score: str, std: float | None = None) -> str:
    """Write a score without its unit, which the heading has, with its standard deviation if there is one.

    >>> score_value(0.6712, "accuracy"), score_value(0.6712, "accuracy", 0.004), score_value(None, "accuracy")
    ('67.1', '67.1 ± 0.4', '–')
    >>> score_value(0.67123, "rmse"), score_value(12.34567, "rmse", 0.1234)
    ('0.6712', '12.35 ± 0.12')
    """
    if value is None or math.isnan(value):
        return NONE
    if score in SHARES:
        return f"{100 * value:.1f}" + ("" if std is None else f" ± {100 * std:.1f}")
    return f"{value:.4g}" + ("" if std is None else f" ± {std:.2g}")


def score_with_unit(value: float | None, score: str) -> str:
    """Write a score by itself.

    >>> score_with_unit(0.6712, "token_accuracy"), score_with_unit(8.25, "perplexity"), score_with_unit(None, "f1")
    ('67.1 %', '8.25', '–')
    """
    written = score_value(value, score)
    return f"{written} %" if score in SHARES and written != NONE else written


def score_name(score: str, part: str = "") -> str:
    """Write the name of a score as words.

    >>> score_name("macro_f1"), score_name("exact_match", "test"), score_name("mse")
    ('macro F1', 'test exact match', 'mse')
    """
    return f"{part} {score.replace('_', ' ').replace('f1', 'F1')}".strip()


def score_label(score: str, part: str = "") -> str:
    """Name a score and its unit, for headings and axes.

    >>> score_label("accuracy", "test"), score_label("rmse", "test"), score_label("exact_match")
    ('test accuracy (%)', 'test rmse', 'exact match (%)')
    """
    return labelled(score_name(score, part), score)


def labelled(heading: str, score: str) -> str:
    """Add the unit of a score to a heading.

    >>> labelled("validation", "accuracy"), labelled("validation", "rmse")
    ('validation (%)', 'validation')
    """
    return f"{heading} (%)" if score in SHARES else heading


def baseline_label(score: Score) -> str:
    return "commonest answer" if score.name == "accuracy" else "without training"
