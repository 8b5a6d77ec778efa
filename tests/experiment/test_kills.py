"""A run that is killed in any phase, or whose disk is full at any write, goes on to the same bits."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import safetensors.torch
from benchmarks.kills import PLACES, differences, killed, outcome

from spry.cli.failures import explain
from spry.core.errors import DiskError
from spry.experiment.config import read_config
from spry.experiment.run import run


@pytest.fixture(scope="module")
def config(tiny_model, tiny_csv, tmp_path_factory):
    path = tmp_path_factory.mktemp("kills") / "config.toml"
    path.write_text(
        f'[model]\nname = "{tiny_model}"\nmax_length = 16\n[data]\nname = "{tiny_csv}"\nclients = 6\n'
        "[schedule]\nrounds = 3\nclients_per_round = 2\nevaluate_every = 2\ncheckpoint_every = 2\n"
        '[client]\nsteps = 1\nbatch_size = 4\n[head]\nstart = "closed-form"\n[method]\nname = "spry"\n'
    )
    return read_config(path)


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    list(run(config, folder))
    return outcome(folder)


@pytest.mark.parametrize("phase", PLACES)
def test_a_run_that_is_killed_goes_on_to_the_same_bits(phase, config, whole, tmp_path):
    assert killed(config, tmp_path / "run", PLACES[phase])
    list(run(config, tmp_path / "run", resume=True))
    assert differences(whole, outcome(tmp_path / "run")) == []


def refuse(*given, **more):
    raise OSError(errno.ENOSPC, "No space left on device")


def refuse_tensors(*given, **more):
    """As safetensors says it on a tmpfs that is full."""
    raise safetensors.SafetensorError(
        "Error while serializing: I/O error: No space left on device (os error 28)"
    )


WRITES = {
    "the settings": ("fsync", "config.toml.partial", 1),
    "what is noted beside the settings": ("fsync", "meta.json.partial", 1),
    "the first line of the log": ("fsync", "rounds.jsonl", 1),
    "a line of the log": ("fsync", "rounds.jsonl", 2),
    "the checkpoint": ("fsync", "checkpoint.safetensors.partial", 1),
    "the adapter": (None, "", 1),
    "the summary": ("fsync", "summary.json.partial", 1),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_full_disk_loses_nothing_and_says_what_to_do(write, config, whole, tmp_path, monkeypatch):
    how, name, call = WRITES[write]
    if how is None:
        monkeypatch.setattr("peft.peft_model.safe_save_file", refuse_tensors)
    else:
        real, left = os.fsync, [call]

        def sync(handle):
            if Path(f"/proc/self/fd/{handle}").readlink().name == name:
                left[0] -= 1
                if not left[0]:
                    refuse()
            return real(handle)

        monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises((OSError, DiskError)) as caught:
        list(run(config, tmp_path / "run"))
    told = str(caught.value) if isinstance(caught.value, DiskError) else explain(caught.value)
    assert "No space left on device" in told and "Make room, then" in told
    monkeypatch.undo()
    list(run(config, tmp_path / "run", resume=True))
    assert differences(whole, outcome(tmp_path / "run")) == []
