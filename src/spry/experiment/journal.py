"""The journal of a run: what happened and when, a line of JSON an event, in ``events.jsonl``."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import signal
import socket
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spry.core.errors import SpryError, Terminated, first_line

if TYPE_CHECKING:
    from spry.runtime.processes.crew import Joined
    from spry.runtime.records import HeadCost, Round

JOURNAL_FILE = "events.jsonl"
LOGGER = "spry.run"
"""The name under which other handlers of Python's logging see the same events."""


class _Lines(logging.Formatter):
    """Writes a record as JSON: ``time`` (UTC), ``level``, ``event`` and what it tells."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        told: Mapping[str, Any] = vars(record).get("told", {})
        known = {key: None if _is_no_number(value) else value for key, value in told.items()}
        return json.dumps({
            "time": time,
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **known,
        })


class _File(logging.FileHandler):
    """Appends to a file; a disk that refuses ends no run, whose rounds and checkpoints say so themselves."""

    def handleError(self, record: logging.LogRecord) -> None:  # ruff: ignore[invalid-function-name]
        """Say nothing."""


class Journal:
    """Writes the events of one run; a context that ends with what ended the run.

    Handlers on the logger ``spry.run`` or above it get the events, too, with their numbers in ``record.told``.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / JOURNAL_FILE
        _end_torn_line(path)
        self._handler = _File(path, encoding="utf-8", delay=True)
        self._handler.setFormatter(_Lines())
        self._logger = logging.Logger(LOGGER, logging.INFO)  # not the shared one: a process may run several
        self._logger.parent = logging.getLogger(LOGGER)
        self._logger.addHandler(self._handler)

    def note(self, event: str, level: int = logging.INFO, **told: Any) -> None:
        self._logger.log(level, event, extra={"told": told})

    def started(self, **told: Any) -> None:
        self.note("started", pid=os.getpid(), host=socket.gethostname(), **told)

    def head(self, cost: HeadCost) -> None:
        self.note("head", clients=cost.clients, examples=cost.examples, seconds=cost.seconds)

    def round(self, record: Round, rounds: int) -> None:
        """Note a finished round, and before it each client whose reply does not count."""
        for client in record.clients:
            if client.failed is not None:
                self.note(
                    "reply dropped",
                    logging.WARNING,
                    round=record.number,
                    client=client.client,
                    reason=client.failed,
                )
        parts = {"test": record.test, "validation": record.validation}
        scores: dict[str, Any] = {
            f"{part}_{record.score_name}": found.values()[record.score_name]
            for part, found in parts.items()
            if found
        }
        self.note(
            "round",
            round=record.number,
            rounds=rounds,
            seconds=record.seconds,
            loss=record.loss,
            failed_replies=len(record.clients) - len(record.survivors),
            **scores,
        )

    def joined(self, helpers: Sequence[Joined]) -> None:
        for helper in helpers:
            self.note("worker joined", **asdict(helper))

    @contextmanager
    def told_of_the_end(self) -> Generator[None]:
        """Note how the body ended, if it did not run to its end."""
        try:
            yield
        except Terminated:
            self.note("stopped", logging.WARNING, by=signal.SIGTERM.name)
            raise
        except (
            KeyboardInterrupt,
            GeneratorExit,
            SystemExit,
        ) as error:  # Flower answers SIGTERM by SystemExit
            names = {KeyboardInterrupt: signal.SIGINT.name, SystemExit: "exit"}
            self.note("stopped", logging.WARNING, by=names.get(type(error), "caller"))
            raise
        except Exception as error:
            told = str(error) if isinstance(error, SpryError) else first_line(error)
            self.note("failed", logging.ERROR, error=type(error).__name__, message=told)
            raise

    def close(self) -> None:
        with contextlib.suppress(OSError):  # what a full disk refused is tried once more
            self._handler.close()


def read_events(folder: Path) -> list[dict[str, Any]]:
    """Read the journal of a run folder, the oldest event first; lines that a crash cut off are left out."""
    path = folder / JOURNAL_FILE
    if not path.is_file():
        return []
    events = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and {"time", "level", "event"} <= event.keys():
            events.append(event)
    return events


def _end_torn_line(path: Path) -> None:
    if path.is_file() and (text := path.read_bytes()) and not text.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")


def _is_no_number(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
