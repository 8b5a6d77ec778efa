"""A folder has one writer, and a dead one does not block it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from spry.core.errors import CheckpointError
from spry.experiment import lock

HOLD = """
import sys
from pathlib import Path
from spry.experiment.lock import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of ``tmp_path`` until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_writer_is_refused_and_told_of_the_first(holder, tmp_path):
    with pytest.raises(CheckpointError, match=rf"process {holder.pid} on .*Wait until"):
        lock.check_unlocked(tmp_path)
    with pytest.raises(CheckpointError), lock.exclusive(tmp_path):  # a refusal takes no lock away
        pass


@pytest.mark.parametrize("end", ["kill", "communicate"])
def test_the_lock_ends_with_its_process(holder, tmp_path, end):
    getattr(holder, end)()
    holder.wait()
    with lock.exclusive(tmp_path) as note:
        assert note is None


def test_within_a_process_too(tmp_path):
    with lock.exclusive(tmp_path), pytest.raises(CheckpointError, match=f"process {os.getpid()}"):
        lock.check_unlocked(tmp_path)
    lock.check_unlocked(tmp_path)


def test_a_file_system_without_locks_says_so_and_goes_on(tmp_path, monkeypatch):
    def refuse(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with lock.exclusive(tmp_path) as note:
        assert "cannot be locked (No locks available)" in note
    monkeypatch.setattr(lock, "fcntl", None)
    with lock.exclusive(tmp_path) as note:
        assert "cannot be locked" in note


def test_what_fails_within_is_not_taken_for_the_lock(tmp_path):
    with pytest.raises(OSError, match="mine"), lock.exclusive(tmp_path):
        raise OSError("mine")
    lock.check_unlocked(tmp_path)
