"""``spry status``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from spry.cli import screen
from spry.cli.runs import JsonOption

if TYPE_CHECKING:
    from spry.experiment.lock import Holder
    from spry.experiment.status import Status

BAD_ENDS = frozenset({"failed", "lost"})
"""Phases with which the command ends with status 1, for whoever watches."""


def status_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")],
    as_json: JsonOption = False,
) -> None:
    """Tell how a run is doing: phase, rounds, last score, pace, time left, its process, and the last failure.

    Nothing is locked or changed. Ends with status 1 if the run failed, or its process is gone without a word.
    """
    from spry.experiment.status import read_status

    found = read_status(folder)
    if as_json:
        screen.document(_document(found))
    else:
        table = Table.grid(padding=(0, 2, 0, 0))
        for heading, told in _lines(found).items():
            if told:
                table.add_row(heading, Text(told))
        screen.out().print(table)
    if found.phase in BAD_ENDS:
        raise typer.Exit(1)


def _document(found: Status) -> dict[str, Any]:
    holder = found.holder and {**asdict(found.holder), "alive": found.holder.alive}
    return {**asdict(found), "folder": str(found.folder), "holder": holder}


def _lines(found: Status) -> dict[str, str]:
    from spry.report import formats

    scores = ", ".join(_score(name, value) for name, value in found.scores.items())
    ends = found.phase in {"stopped", *BAD_ENDS}
    return {
        "phase": found.phase + (f"; go on with: spry resume {found.folder}" if ends else ""),
        "rounds": f"{found.rounds_done} of {found.rounds}; the checkpoint has {found.checkpoint}",
        "loss": "" if found.loss is None else f"{found.loss:.3f}",
        "score": f"{scores} after round {found.scored_after}" if scores else "",
        "pace": ""
        if found.seconds_per_round is None
        else f"{formats.duration(found.seconds_per_round)} a round",
        "time left": "" if found.seconds_left is None else formats.duration(found.seconds_left),
        "last word": found.last_event,
        "process": _process(found.holder),
        "workers": "" if found.workers == 1 else f"{found.workers_here} of {found.workers} are here",
        "dropped": "" if not found.failed_replies else f"{found.failed_replies} replies",
        "last failure": "" if found.last_failure is None else _failure(found.last_failure),
    }


def _score(name: str, value: float) -> str:
    from spry.tasks.score import Score
    from spry.tasks.score_text import score_name, score_with_unit

    part, score = Score.of_key(name)
    return f"{score_name(score, part)} {score_with_unit(value, score)}"


def _process(holder: Holder | None) -> str:
    if holder is None:
        return "none"
    seen = {True: "alive", False: "gone", None: "which cannot be seen from here"}[holder.alive]
    return f"{holder.pid} on {holder.host}, {seen}"


def _failure(event: Mapping[str, Any]) -> str:
    if event["event"] == "failed":
        return f"{event['error']}: {event['message']} ({event['time']})"
    return f"round {event['round'] + 1}, client {event['client']}: {event['reason']} ({event['time']})"
