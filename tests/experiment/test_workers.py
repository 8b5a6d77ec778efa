"""Runs over real processes: the bits of one process, whenever helpers come, and whatever becomes of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file

from spry.core.errors import ConfigError, WorkerError
from spry.experiment import log, workers
from spry.experiment.checkpoint import CHECKPOINT_FILE
from spry.experiment.config import load_config, read_config
from spry.experiment.folder import read_meta
from spry.experiment.journal import read_events
from spry.experiment.local_tuning import LOCAL_TUNING
from spry.experiment.run import run
from spry.runtime.processes.crew import JOINED, Crew


@pytest.fixture
def config(tiny_model, tiny_csv, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(
        f'[model]\nname = "{tiny_model}"\nmax_length = 16\n[data]\nname = "{tiny_csv}"\nclients = 6\n'
        "[schedule]\nrounds = 6\nclients_per_round = 3\nevaluate_every = 2\ncheckpoint_every = 1\n"
        "[client]\nsteps = 2\nbatch_size = 4\n"
    )
    return read_config(path)


@pytest.fixture
def patient(monkeypatch):
    """Let the leader wait for all helpers before the first job, so that they do some of the work."""
    share = Crew.share

    def wait_then_share(crew, *arguments):
        deadline = time.monotonic() + 300
        for rank in crew.helpers:
            while (
                rank in crew._coming and not crew.box.has(f"{JOINED}/{rank}") and time.monotonic() < deadline
            ):
                crew.look()
                time.sleep(0.01)
        return share(crew, *arguments)

    monkeypatch.setattr(Crew, "share", wait_then_share)


def same(ours, theirs):
    left, right = load_file(ours / CHECKPOINT_FILE), load_file(theirs / CHECKPOINT_FILE)
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
    for one, other in zip(log.read_rounds(ours), log.read_rounds(theirs), strict=True):
        for key in ("loss", "test_accuracy", "test_loss", "generalized_accuracy", "bytes_up", "operations"):
            assert one[key] == other[key], key


def events(folder, name):
    return [event for event in read_events(folder) if event["event"] == name]


def test_two_processes_one_that_is_killed_and_one_alone_give_the_same_bits(config, tmp_path, patient):
    """A run of two processes whose helper is killed goes on alone, to the bits of a run that was alone."""
    list(run(config, tmp_path / "alone"))
    going = run(config.with_settings({"runtime.workers": 2}), tmp_path / "dealt")
    next(going), next(going), next(going)
    (helper,) = events(tmp_path / "dealt", "worker joined")
    assert helper["pid"] != os.getpid() and helper["own_bytes"] > 0
    os.kill(helper["pid"], signal.SIGKILL)
    with pytest.raises(WorkerError, match=rf"worker 1 \(process {helper['pid']}\) ended by SIGKILL"):
        list(going)
    assert [event["error"] for event in events(tmp_path / "dealt", "failed")] == ["WorkerError"]
    assert 2 <= len(log.read_rounds(tmp_path / "dealt")) < 6
    list(run(config, tmp_path / "dealt", resume=True))
    same(tmp_path / "dealt", tmp_path / "alone")
    heads = [log.read_rounds(tmp_path / name)[0]["head"] for name in ("dealt", "alone")]
    assert heads[0]["operations"] == heads[1]["operations"] and heads[0]["bytes_up"] == heads[1]["bytes_up"]


def test_torchrun_deals_a_run_and_only_the_first_process_writes_and_prints(config, tmp_path):
    (tmp_path / "whole.toml").write_text(
        config.with_settings({"schedule.rounds": 12, "schedule.local_tuning": 1}).dump()
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "spry"]
    done = subprocess.run(
        [*launch, "run", tmp_path / "whole.toml", "--out", tmp_path / "dealt", "--json"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"folder"') == 1
    list(run(load_config(tmp_path / "whole.toml"), tmp_path / "alone"))
    same(tmp_path / "dealt", tmp_path / "alone")
    tuned = [(tmp_path / name / LOCAL_TUNING).read_text() for name in ("dealt", "alone")]
    assert tuned[0] == tuned[1]
    assert [event["workers"] for event in events(tmp_path / "dealt", "started")] == [2]


def test_a_run_goes_on_with_the_threads_that_it_began_with(config, tmp_path, monkeypatch):
    short = config.with_settings({"schedule.rounds": 1, "runtime.threads": 1})
    list(run(short, tmp_path / "run"))
    assert read_meta(tmp_path / "run")["machine"]["threads"] == 1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    chosen = workers._chosen_threads
    assert chosen(config, tmp_path / "run", 2) == 1
    assert chosen(config, tmp_path / "new", 2) == 2
    assert chosen(config, tmp_path / "new", 8) == 1
    assert chosen(config.with_settings({"runtime.threads": 3}), tmp_path / "run", 2) == 3
    monkeypatch.setattr(workers, "_cores", lambda: 0)  # a smaller machine than the run began on
    assert chosen(config, tmp_path / "run", 2) == 2
    told = workers.Workers(crew=None, size=1, threads=2, joined=[]).changed_threads(tmp_path / "run")
    assert "began with 1 thread a process, and has 2 now" in told[0]


def test_a_process_that_torchrun_started_to_help_runs_nothing_of_its_own(config, tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="torchrun has started this process to help"):
        next(run(config, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("device", "gpus", "chosen"),
    [("cuda", 2, [0, 1, 0]), ("cuda", 4, [0, 1, 2]), ("cuda:1", 2, []), ("cuda", 0, []), ("cpu", 2, [])],
)
def test_each_process_takes_a_gpu_of_its_own_unless_one_is_named(
    device, gpus, chosen, config, tmp_path, monkeypatch
):
    """The first is the leader, whom nobody has told a number; this machine need not have a GPU."""
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(workers, "helpers_here", lambda *given: contextlib.nullcontext(Mock()))
    monkeypatch.setattr(workers, "build", Mock())
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    settings = {"model.device": device, "runtime.workers": 3, "runtime.threads": torch.get_num_threads()}
    asked = config.with_settings(settings)
    with workers.at_work(asked, tmp_path, workers.NOTHING):
        for rank in "12":
            monkeypatch.setenv("LOCAL_RANK", rank)
            workers.Load()(workers.Told(asked, torch.get_num_threads()))
    assert taken == chosen
