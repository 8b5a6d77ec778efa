"""One line an evaluation: which run, round, loss, scores and time so far, in 80 columns."""

from __future__ import annotations

import math
from collections.abc import Mapping

from spry.report import formats
from spry.runtime.records import Round
from spry.tasks.score_text import score_value, score_with_unit

WIDTH = 80
ABBREVIATED = {"validation": "val.", "generalized": "gen.", "personalized": "pers."}
"""What a part is called where the line is full."""

LEAST_WANTED = ("generalized", "personalized", "validation", "time")
"""What is left out first where even that is too long."""


def evaluation_line(prefix: str, round: Round, rounds: int, seconds: float, width: int = WIDTH) -> str:
    """Write what is known after an evaluated round of ``rounds``, ``seconds`` after the run began."""
    return _line(
        [
            prefix,
            f"round {round.number + 1}/{rounds}",
            "" if math.isnan(round.loss) else f"loss {round.loss:.3f}",
        ],
        round.scores,
        round.score_name,
        seconds,
        width,
    )


def start_line(prefix: str, round: Round, rounds: int, seconds: float, width: int = WIDTH) -> str:
    """Write what the first round says of the model before it."""
    return _line([prefix, f"round 0/{rounds}"], round.start_scores, round.score_name, seconds, width)


def head_line(prefix: str, round: Round, rounds: int, seconds: float, width: int = WIDTH) -> str:
    """Write what the first round says of a head in closed form."""
    assert round.head is not None
    head = round.head
    told = f"head: closed form from {head.examples:,} examples of {head.clients:,} clients"
    pieces = {"bytes": f"{formats.format_bytes(head.bytes_up)} up", "time": clock(head.seconds)}
    return _joined([text for text in (prefix, told) if text], pieces)


def _line(told: list[str], known: Mapping[str, float], score: str, seconds: float, width: int) -> str:
    fixed = [text for text in told if text]
    long = {part: f"{part} {score_with_unit(value, score)}" for part, value in known.items()}
    long["time"] = clock(seconds)
    if len(line := _joined(fixed, long)) <= width:
        return line
    short = {
        part: f"{ABBREVIATED.get(part, part)} {score_value(value, score)}" for part, value in known.items()
    }
    short["time"] = clock(seconds)
    for part in LEAST_WANTED:
        if len(_joined(fixed, short)) > width:
            short.pop(part, None)
    return _joined(fixed, short)


def _joined(fixed: list[str], pieces: Mapping[str, str]) -> str:
    return "  ".join([*fixed, *pieces.values()])


def clock(seconds: float) -> str:
    """Write a time as a clock does.

    >>> clock(7.9), clock(75), clock(7500)
    ('0:07', '1:15', '2:05:00')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
