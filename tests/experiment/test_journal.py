"""The journal of a run, and what is told of a run from its folder alone."""

from __future__ import annotations

import json
import logging
import os
import socket
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from spry.core.errors import CheckpointError, Terminated
from spry.experiment import lock
from spry.experiment.checkpoint import read_checkpoint
from spry.experiment.config import read_config
from spry.experiment.journal import JOURNAL_FILE, Journal, read_events
from spry.experiment.run import run
from spry.experiment.status import read_status

BEGAN = datetime(2026, 11, 30, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.toml").write_text("[schedule]\nrounds = 10\n")
    return tmp_path


def write(folder, *events):
    """A journal with an event every ten seconds."""
    lines = [
        {"time": (BEGAN + timedelta(seconds=10 * place)).isoformat(), "level": "info", **event}
        for place, event in enumerate(events)
    ]
    (folder / JOURNAL_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))


def started(at=0):
    return {"event": "started", "resumed_at": at}


def done(number, **more):
    return {"event": "round", "round": number, "seconds": 4.0, "loss": 0.5, "failed_replies": 0, **more}


def sign(folder, **holder):
    (folder / lock.LOCK_FILE).write_text(json.dumps(holder))


def sign_as_this_process(folder):
    sign(folder, pid=os.getpid(), host=socket.gethostname(), began=psutil.Process().create_time())


def test_a_run_that_goes_on_has_a_pace_and_time_left(folder):
    write(
        folder, started(), done(0), done(1, test_accuracy=0.7), {"event": "checkpoint", "rounds": 2}, done(2)
    )
    sign_as_this_process(folder)
    status = read_status(folder, now=BEGAN + timedelta(seconds=45))
    assert (status.phase, status.rounds_done, status.rounds, status.checkpoint) == ("training", 3, 10, 2)
    assert status.seconds_per_round == pytest.approx(15)  # rounds ended after 10, 20 and 40 seconds
    assert status.seconds_left == pytest.approx(7 * 15 - 5)
    assert (dict(status.scores), status.scored_after) == ({"test_accuracy": 0.7}, 2)
    assert status.holder is not None and status.holder.alive


@pytest.mark.parametrize(
    ("last", "phase"),
    [
        (started(), "preparing"),
        (done(3), "training"),
        ({"event": "saving"}, "saving"),
        ({"event": "finished", "rounds": 4}, "finished"),
        ({"event": "stopped", "by": "SIGTERM"}, "stopped"),
        ({"event": "failed", "error": "DiskError", "message": "full"}, "failed"),
    ],
)
def test_the_last_word_of_a_living_process_tells_the_phase(folder, last, phase):
    write(folder, started(), last)
    sign_as_this_process(folder)
    assert read_status(folder).phase == phase


@pytest.mark.parametrize(
    ("error", "event", "by"),
    [
        (Terminated(), "stopped", "SIGTERM"),
        (KeyboardInterrupt(), "stopped", "SIGINT"),
        (SystemExit(0), "stopped", "exit"),  # what Flower's server app makes of SIGTERM
        (GeneratorExit(), "stopped", "caller"),
        (OSError("cut"), "failed", None),
    ],
)
def test_whatever_ends_a_run_has_the_last_word(folder, error, event, by):
    journal = Journal(folder)
    journal.started()
    with pytest.raises(type(error)), journal.told_of_the_end():
        raise error
    journal.close()
    last = read_events(folder)[-1]
    assert (last["event"], last.get("by")) == (event, by)
    sign(folder, pid=2**22 + 1, host=socket.gethostname(), began=0.0)
    assert read_status(folder).phase == event


@pytest.mark.parametrize("began", [0.0, "gone"])
def test_a_process_that_is_gone_without_a_word_is_lost(folder, began):
    """Also where another process has its number now."""
    write(folder, started(), done(0))
    gone = began == "gone"
    sign(folder, pid=2**22 + 1 if gone else os.getpid(), host=socket.gethostname(), began=0.0)
    status = read_status(folder)
    assert status.holder is not None and status.holder.alive is False
    assert (status.phase, status.seconds_left) == ("lost", None)


def test_a_process_on_another_machine_is_believed(folder):
    write(folder, started(), done(0))
    sign(folder, pid=1, host="elsewhere", began=0.0)
    status = read_status(folder)
    assert status.holder is not None and status.holder.alive is None
    assert status.phase == "training"


def test_rounds_that_were_lost_and_run_again_count_once(folder):
    write(folder, started(), done(0), done(1, failed_replies=2), started(1), done(1, failed_replies=1))
    sign_as_this_process(folder)
    status = read_status(folder)
    assert (status.rounds_done, status.failed_replies, status.seconds_per_round) == (2, 1, 4.0)


def test_what_is_no_run_or_has_no_journal_is_told(folder, tmp_path):
    with pytest.raises(CheckpointError, match="has no journal"):
        read_status(folder)
    with pytest.raises(CheckpointError, match="no run folder"):
        read_status(tmp_path / "nowhere")


def test_torn_and_foreign_lines_are_passed_over_and_never_joined(folder):
    (folder / JOURNAL_FILE).write_text('7\n{"event": "round"}\n{"time": "2026')
    journal = Journal(folder)
    journal.note("round", loss=float("nan"), round=3)
    journal.close()
    (event,) = read_events(folder)
    assert (event["event"], event["round"], event["loss"], event["level"]) == ("round", 3, None, "info")


def test_a_disk_that_refuses_ends_no_run(folder, capsys):
    (folder / JOURNAL_FILE).symlink_to("/dev/full")
    journal = Journal(folder)
    journal.note("round")
    journal.close()
    assert capsys.readouterr() == ("", "")


def test_a_run_notes_what_happens_and_other_handlers_hear_it(tiny_model, tiny_csv, tmp_path, caplog):
    path = tmp_path / "config.toml"
    path.write_text(
        f'[model]\nname = "{tiny_model}"\nmax_length = 16\n[data]\nname = "{tiny_csv}"\nclients = 4\n'
        "[schedule]\nrounds = 3\nclients_per_round = 2\ncheckpoint_every = 9\n[client]\nsteps = 1\n"
    )
    config, folder = read_config(path), tmp_path / "run"
    going = run(config, folder)
    with caplog.at_level(logging.INFO, "spry.run"):
        first, second = next(going), next(going)
    assert "head" in [record.getMessage() for record in caplog.records]
    going.close()  # after one round, which no checkpoint was due for
    names = [event["event"] for event in read_events(folder)]
    assert names == ["started", "head", "round", "checkpoint", "stopped"]
    assert (read_status(folder).phase, read_status(folder).checkpoint) == ("stopped", 1)
    assert read_checkpoint(folder, second.state).round == 1
    list(run(config, folder, resume=True))
    status = read_status(folder)
    assert (status.phase, status.rounds_done, status.holder) == ("finished", 3, None)
    assert [event["event"] for event in read_events(folder)][-2:] == ["saving", "finished"]
    assert first.folder == folder
