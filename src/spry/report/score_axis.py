"""The axis of a score: its name and unit, which way is good, and what an answer without training reaches."""

from __future__ import annotations

from matplotlib.axes import Axes

from spry.report import style
from spry.report.groups import Section
from spry.tasks.score import SHARES
from spry.tasks.score_text import baseline_label, score_factor, score_label

LEAST_POINTS, LEAST_SHARE = 5.0, 0.05
"""The axis spans at least so many percentage points, or such a share of its values, so that noise looks like noise."""


MARGIN = 2.0
"""Percentage points beyond what a share can be, so that marks there are whole; a band may say more and is cut."""


def finish_score_axis(axes: Axes, section: Section) -> None:
    """Label the y axis of a finished drawing and widen its range if it is small."""
    score = section.score
    direction = "" if score.higher_is_better else ", lower is better"
    axes.set_ylabel(score_label(score.name, section.part) + direction)
    low, high = axes.get_ylim()
    share = LEAST_SHARE * max(abs(low), abs(high))
    if score.name not in SHARES:
        style.widen(axes, share)
        return
    style.widen(axes, LEAST_POINTS)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -MARGIN), min(high, 100 + MARGIN))


def draw_baseline(axes: Axes, section: Section) -> None:
    """Draw the score of the answer that needs no training, if it is known and the test part is shown."""
    score = section.score
    if score.baseline is not None and section.part == "test":
        height = score_factor(score.name) * score.baseline
        axes.axhline(height, label=baseline_label(score), **style.BASELINE_LINE)
