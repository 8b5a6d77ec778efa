"""The log of a run: one line of JSON a round, in ``rounds.jsonl``."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from spry.experiment.atomic import replace_file
from spry.runtime.records import ClientRecord, Round
from spry.tasks.task import Metrics

FILE = "rounds.jsonl"


def to_json(record: Round) -> dict[str, Any]:
    """Turn a round into what the log holds of it.

    Args:
        record: The round.

    Returns:
        A JSON object.
    """
    return {
        "round": record.number,
        "loss": record.loss,
        f"test_{record.score_name}": _score(record.test, record),
        "test_loss": record.test.loss if record.test is not None and record.test.examples else None,
        f"generalized_{record.score_name}": _score(record.generalized, record),
        f"personalized_{record.score_name}": _score(record.personalized, record),
        "seconds": record.seconds,
        "client_seconds": sum(client.seconds for client in record.clients),
        "peak_bytes_above_model": record.peak_bytes,
        "bytes_up": sum(client.bytes_up for client in record.clients),
        "bytes_down": sum(client.bytes_down for client in record.clients),
        "failed_replies": len(record.clients) - len(record.survivors),
        "untrained_units": list(record.untrained_units),
        "clients": [_client(client) for client in record.clients],
    }


def append(record: Round, folder: Path) -> None:
    """Append a round to the log.

    Args:
        record: The round.
        folder: The run folder.
    """
    with (folder / FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(to_json(record)) + "\n")


def read(folder: Path) -> list[dict[str, Any]]:
    """Read the log up to its last whole line.

    Args:
        folder: The run folder.

    Returns:
        One JSON object a round.
    """
    path = folder / FILE
    if not path.exists():
        return []
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


def rewind(folder: Path, rounds: int) -> None:
    """Forget the rounds that came after a checkpoint; they are run again.

    Args:
        folder: The run folder.
        rounds: How many rounds the checkpoint has.
    """
    kept = [entry for entry in read(folder) if entry["round"] < rounds]
    text = "".join(json.dumps(entry) + "\n" for entry in kept)
    replace_file(folder / FILE, text.encode())


def _score(metrics: Metrics | None, record: Round) -> float | None:
    return metrics.values()[record.score_name] if metrics is not None else None


def _client(client: ClientRecord) -> dict[str, Any]:
    return {
        "client": client.client,
        "units": list(client.units),
        "examples": client.examples,
        "steps": client.steps,
        "loss": client.loss if math.isfinite(client.loss) else None,
        "bytes_up": client.bytes_up,
        "bytes_down": client.bytes_down,
        "seconds": client.seconds,
        "peak_bytes_above_model": client.peak_bytes,
        "failed": client.failed,
    }
