"""How a run is doing, from its folder alone: nothing is locked, loaded or changed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from spry.core.errors import CheckpointError
from spry.experiment.journal import read_events
from spry.experiment.lock import Holder, read_holder

RunPhase = Literal["preparing", "training", "saving", "finished", "stopped", "failed", "lost"]
"""What a run does now, or how it ended; ``lost``: its process is gone without a word, by SIGKILL or a power cut."""
UNDER_WAY: Mapping[str, RunPhase] = {"started": "preparing", "head": "preparing", "saving": "saving"}
"""What follows an event of a run that goes on; any other is of training."""
ENDS: Mapping[str, RunPhase] = {"finished": "finished", "stopped": "stopped", "failed": "failed"}
RECENT = 20
"""Rounds whose mean duration stands for those to come."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """How a run is doing.

    Args:
        rounds_done: Finished rounds.
        rounds: Rounds in all.
        checkpoint: Rounds that the checkpoint has; what came after them is run again by whoever resumes.
        loss: Of the last round.
        scores: Of the last evaluation, by name, such as ``test_accuracy``.
        scored_after: After how many rounds that was.
        seconds_per_round: Mean duration of the last rounds, evaluations and checkpoints included.
        seconds_left: What the rounds to come take if they are like the last ones; None unless it is training.
        last_event: When something was noted last, in ISO 8601 (UTC).
        workers: Processes that the run was started with last.
        workers_here: Those of them that have loaded model and data.
        failed_replies: Replies that did not count, since the run began.
        last_failure: The last event of a failure, of a client or of the run.
    """

    folder: Path
    phase: RunPhase
    rounds_done: int
    rounds: int
    checkpoint: int
    loss: float | None
    scores: Mapping[str, float]
    scored_after: int | None
    seconds_per_round: float | None
    seconds_left: float | None
    last_event: str
    holder: Holder | None
    workers: int
    workers_here: int
    failed_replies: int
    last_failure: Mapping[str, Any] | None


def read_status(folder: Path, now: datetime | None = None) -> Status:
    """Read how the run of a folder is doing.

    Args:
        now: The time; the clock's if None.

    Raises:
        CheckpointError: If the folder holds no run, or one of a version without a journal.
    """
    config, events = folder / "config.toml", read_events(folder)
    if not config.is_file():
        raise CheckpointError(
            f"{folder} is no run folder (it has no {config.name}). Give the folder of a run."
        )
    if not events:
        raise CheckpointError(
            f"{folder} has no journal (events.jsonl): an earlier version of Spry wrote it, or its process has only "
            "begun. spry report tells what it holds."
        )
    rounds, begun = _of_rounds(events), _since_start(events)
    holder = read_holder(folder)
    phase = _phase(events[-1]["event"], holder)
    planned = int(tomllib.loads(config.read_text(encoding="utf-8"))["schedule"]["rounds"])
    done = max((entry["round"] + 1 for entry in rounds), default=0)
    scored = next((entry for entry in reversed(rounds) if _scores(entry)), None)
    pace = _pace(begun)
    since = ((now or datetime.now(UTC)) - _time(events[-1])).total_seconds()
    training = phase == "training" and pace is not None
    return Status(
        folder=folder,
        phase=phase,
        rounds_done=done,
        rounds=planned,
        checkpoint=next((event["rounds"] for event in reversed(events) if event["event"] == "checkpoint"), 0),
        loss=rounds[-1]["loss"] if rounds else None,
        scores=_scores(scored) if scored else {},
        scored_after=scored["round"] + 1 if scored else None,
        seconds_per_round=pace,
        seconds_left=max(0.0, (planned - done) * pace - since) if training and pace is not None else None,
        last_event=events[-1]["time"],
        holder=holder,
        workers=begun[0].get("workers", 1),
        workers_here=1 + sum(event["event"] == "worker joined" for event in begun),
        failed_replies=sum(entry["failed_replies"] for entry in rounds),
        last_failure=next(
            (event for event in reversed(events) if event["event"] in {"failed", "reply dropped"}), None
        ),
    )


def _phase(last: str, holder: Holder | None) -> RunPhase:
    if last in ENDS:
        return ENDS[last]
    if holder is None or holder.alive is False:
        return "lost"
    return UNDER_WAY.get(last, "training")


def _of_rounds(events: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rounds in order; what a resumed run did again takes the place of what was lost."""
    found: dict[int, Mapping[str, Any]] = {}
    for event in events:
        if event["event"] == "started":
            found = {number: entry for number, entry in found.items() if number < event["resumed_at"]}
        if event["event"] == "round":
            found[event["round"]] = event
    return list(found.values())


def _scores(entry: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in entry.items()
        if name.startswith(("test_", "validation_")) and value is not None
    }


def _since_start(events: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The events since the run was started last."""
    return events[
        max((place for place, event in enumerate(events) if event["event"] == "started"), default=0) :
    ]


def _pace(events: Sequence[Mapping[str, Any]]) -> float | None:
    """Seconds from round to round; of a first round alone its own."""
    rounds = [event for event in events if event["event"] == "round"][-RECENT - 1 :]
    if len(rounds) < 2:
        return rounds[0]["seconds"] if rounds else None
    return (_time(rounds[-1]) - _time(rounds[0])).total_seconds() / (len(rounds) - 1)


def _time(event: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(event["time"])
