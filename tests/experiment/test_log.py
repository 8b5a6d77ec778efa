"""The log holds each round once and in order, whatever was done to it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from spry.core.errors import CheckpointError, DiskError
from spry.experiment import log
from spry.federated.algorithm import ServerState
from spry.runtime.records import ClientRecord, Round
from spry.tasks.metrics import ClassificationMetrics


def round_of(number):
    client = ClientRecord(
        client=0, units=("a",), examples=1, steps=1, loss=0.5, bytes_up=1, bytes_down=1, seconds=0.1
    )
    state = ServerState(round=number + 1, weights={}, optimizer={})
    return Round(
        number=number,
        state=state,
        clients=(client,),
        untrained_units=(),
        seconds=0.1,
        peak_bytes=1,
        score_name="accuracy",
    )


def fill(folder, *numbers):
    writer = log.Writer(folder, 0)
    for number in numbers:
        writer.append(round_of(number))
    return writer


def numbers(folder):
    return [entry["round"] for entry in log.read_rounds(folder)]


def test_a_clients_own_scores_and_the_confusion_matrix_are_kept():
    right = ClassificationMetrics(examples=2, correct=2, confusion=np.eye(2, dtype=np.int64))
    plain = round_of(0)
    seen = replace(plain, clients=(replace(plain.clients[0], generalized=right),), test=right)
    entry, other = log.to_json(seen), log.to_json(plain)
    assert entry["clients"][0]["generalized_accuracy"] == pytest.approx(1.0)
    assert entry["clients"][0]["personalized_accuracy"] is None
    assert entry["test_details"] == {"confusion": [[1, 0], [0, 1]]}
    assert "test_details" not in other and json.dumps(entry)


def test_rounds_after_the_checkpoint_are_forgotten_and_a_torn_line_is_healed(tmp_path):
    fill(tmp_path, 0, 1, 2, 3)
    with (tmp_path / log.LOG_FILE).open("a") as file:
        file.write('{"round": 4, "lo')
    assert numbers(tmp_path) == [0, 1, 2, 3]
    log.Writer(tmp_path, 2).append(round_of(2))
    assert numbers(tmp_path) == [0, 1, 2]
    assert (tmp_path / log.LOG_FILE).read_bytes().endswith(b"}\n")


def test_a_round_out_of_order_is_a_defect(tmp_path):
    for wrong in (0, 2):
        with pytest.raises(AssertionError):
            fill(tmp_path, 0).append(round_of(wrong))


def test_a_line_of_another_process_stops_the_writer(tmp_path):
    ours, theirs = fill(tmp_path, 0), log.Writer(tmp_path, 1)
    theirs.append(round_of(1))
    with pytest.raises(CheckpointError, match="changed while this run wrote it"):
        ours.append(round_of(1))
    assert numbers(tmp_path) == [0, 1]


def test_a_round_that_was_written_twice_counts_once(tmp_path):
    fill(tmp_path, 0, 1)
    lines = (tmp_path / log.LOG_FILE).read_text().splitlines()
    (tmp_path / log.LOG_FILE).write_text("".join(f"{line}\n" for line in (lines[0], *lines)))
    assert numbers(tmp_path) == [0, 1]
    log.Writer(tmp_path, 2)
    assert len((tmp_path / log.LOG_FILE).read_text().splitlines()) == 2


def test_a_lost_round_and_a_damaged_line_are_told(tmp_path):
    fill(tmp_path, 0)
    with pytest.raises(CheckpointError, match="lacks round 1"):
        log.Writer(tmp_path, 2)
    for damage in ("{\n", "[]\n", json.dumps({"loss": 1}) + "\n"):
        (tmp_path / log.LOG_FILE).write_text(damage)
        with pytest.raises(CheckpointError, match="line 1, is damaged"):
            log.read_rounds(tmp_path)


def test_a_full_disk_is_told_as_one(tmp_path, monkeypatch):
    writer = fill(tmp_path, 0)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(log.os, "fsync", full)
    with pytest.raises(DiskError, match=r"cannot write round 1 .*No space left"):
        writer.append(round_of(1))
