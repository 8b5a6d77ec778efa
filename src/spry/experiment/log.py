"""The log of a run: one line of JSON a round, in ``rounds.jsonl``, each round once and in order."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spry.core.errors import CheckpointError, DiskError
from spry.experiment.atomic import replace_file
from spry.runtime.records import ClientRecord, Round
from spry.tasks.task import Metrics, details

LOG_FILE = "rounds.jsonl"


def to_json(record: Round) -> dict[str, Any]:
    return {
        "round": record.number,
        "loss": _finite(record.loss),
        f"test_{record.score_name}": _score(record.test, record),
        "test_loss": record.test.loss if record.test is not None else None,
        f"validation_{record.score_name}": _score(record.validation, record),
        "validation_loss": record.validation.loss if record.validation is not None else None,
        f"generalized_{record.score_name}": _score(record.generalized, record),
        f"personalized_{record.score_name}": _score(record.personalized, record),
        "seconds": record.seconds,
        "client_seconds": sum(client.seconds for client in record.clients),
        "client_cpu_seconds": sum(client.cpu_seconds for client in record.clients),
        "operations": sum(client.operations or 0 for client in record.clients),
        "peak_bytes_above_model": record.peak_bytes,
        "bytes_up": sum(client.bytes_up for client in record.clients),
        "bytes_down": sum(client.bytes_down for client in record.clients),
        "failed_replies": len(record.clients) - len(record.survivors),
        "untrained_units": list(record.untrained_units),
        "clients": [_client(client, record) for client in record.clients],
        **({"head": asdict(record.head)} if record.head else {}),
        **({"start": _start(record)} if record.start else {}),
        **({} if record.epsilon is None else {"epsilon": _finite(record.epsilon)}),
        **_details(record),
    }


class Writer:
    """Appends rounds to the log of a folder, in order.

    Args:
        rounds: How many rounds the checkpoint has; those that came after it are forgotten and run again.

    Raises:
        CheckpointError: If the log lacks a round that the checkpoint has.
    """

    def __init__(self, folder: Path, rounds: int) -> None:
        self.path, self.next = folder / LOG_FILE, rounds
        kept = [entry for entry in read_rounds(folder) if entry["round"] < rounds]
        lost = sorted(set(range(rounds)) - {entry["round"] for entry in kept})
        if lost:
            raise CheckpointError(
                f"{self.path} lacks round {lost[0]}, which the checkpoint of {rounds} rounds has. Put the whole file "
                "back, or start the run anew in another folder."
            )
        data = "".join(json.dumps(entry) + "\n" for entry in kept).encode()
        replace_file(self.path, data)
        self._size = len(data)

    def append(self, record: Round) -> None:
        """Write the next round.

        Raises:
            CheckpointError: If somebody else wrote the log since, as two processes can where nothing can be locked.
            DiskError: If the disk is full or refuses.
        """
        assert record.number == self.next, (record.number, self.next)
        line = (json.dumps(to_json(record)) + "\n").encode()
        try:
            self._write(line, record.number)
        except OSError as error:
            raise DiskError(
                f"cannot write round {record.number} into {self.path} ({error}). Make room, then resume the run."
            ) from error
        self._size += len(line)
        self.next += 1

    def _write(self, line: bytes, number: int) -> None:
        with self.path.open("ab") as file:
            if file.tell() != self._size:
                raise CheckpointError(
                    f"{self.path} was changed while this run wrote it, before round {number}. Stop the other process, "
                    "then resume the run."
                )
            file.write(line)
            file.flush()
            os.fsync(file.fileno())  # a checkpoint must not survive a power cut that its rounds do not


def read_rounds(folder: Path) -> list[dict[str, Any]]:
    """Read the log up to its last whole line; of a round that an older Spry wrote twice, the first counts.

    Raises:
        CheckpointError: If a line is damaged.
    """
    path = folder / LOG_FILE
    if not path.exists():
        return []
    whole = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")[0]
    rounds: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            entry = json.loads(line)
            rounds.setdefault(entry["round"], entry)
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path}, line {number}, is damaged ({error}). Start the run anew."
            ) from error
    return list(rounds.values())


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _score(metrics: Metrics | None, record: Round) -> float | None:
    return metrics.values()[record.score_name] if metrics is not None else None


def _start(record: Round) -> dict[str, float | None]:
    scores = {f"{part}_{record.score_name}": _score(found, record) for part, found in record.start.items()}
    return scores | {f"{part}_loss": found.loss for part, found in record.start.items()}


def _details(record: Round) -> dict[str, Any]:
    """What the parts' metrics tell beside the score, as far as they do."""
    parts = {"test": record.test, "validation": record.validation}
    told = {f"{part}_details": details(found) for part, found in parts.items() if found is not None}
    return {name: dict(found) for name, found in told.items() if found}


def _client(client: ClientRecord, record: Round) -> dict[str, Any]:
    return {
        "client": client.client,
        "units": list(client.units),
        "examples": client.examples,
        "steps": client.steps,
        "loss": _finite(client.loss),
        "bytes_up": client.bytes_up,
        "bytes_down": client.bytes_down,
        "seconds": client.seconds,
        "cpu_seconds": client.cpu_seconds,
        "operations": client.operations,
        "slowed": client.slowed,
        "peak_bytes_above_model": client.peak_bytes,
        "failed": client.failed,
        **({"ignored": client.ignored} if client.ignored else {}),
        f"generalized_{record.score_name}": _score(client.generalized, record),
        f"personalized_{record.score_name}": _score(client.personalized, record),
        **_own_details(client),
    }


def _own_details(client: ClientRecord) -> dict[str, Any]:
    """What a method tells of the models that it evaluates itself."""
    if not client.own or client.personalized is None:
        return {}
    return {"personalized_details": dict(details(client.personalized))}
