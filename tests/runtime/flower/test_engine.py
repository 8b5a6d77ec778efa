"""Flower's processes: an engine of its own, and a deployment over TLS. Weights are those of ``simulate``."""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("flwr", reason="Flower is not installed (the extra flower)")

from benchmarks.cuts import warm_client, write_rows
from benchmarks.deployment import Deployment

from spry.core.errors import TrainingError
from spry.experiment.agreed import agreed
from spry.experiment.checkpoint import CHECKPOINT_FILE
from spry.experiment.config import read_config
from spry.experiment.flower_folder import write_app, write_deployment
from spry.experiment.log import read_rounds
from spry.experiment.run import run
from spry.runtime.flower import engine
from spry.runtime.flower.engine import MARK, flower_engine

SECONDS = 400


@pytest.fixture
def config(tiny_model, tiny_csv, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(
        f'[model]\nname = "{tiny_model}"\n[data]\nname = "{tiny_csv}"\ntest = "{tiny_csv}"\nclients = 2\n'
        "[schedule]\nrounds = 2\nclients_per_round = 2\nevaluate_every = 1\ncheckpoint_every = 1\n"
        f"[client]\nsteps = 2\nbatch_size = 4\n[runtime]\nwait = {SECONDS}\nthreads = 1\n"
    )
    return read_config(path)


def weights(folder):
    return load_file(folder / CHECKPOINT_FILE)


def equal(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


@pytest.fixture
def left_over(tmp_path, monkeypatch):
    """Finds the processes that this test's engines have left; other tests may have engines of their own."""
    monkeypatch.setenv("SPRY_TEST", str(tmp_path))

    def find():
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                variables = process.environ()
                if MARK in variables and variables.get("SPRY_TEST") == str(tmp_path):
                    found.append(process)
        return found

    return find


def named(program, processes):
    return [one for one in processes if program in " ".join(one.cmdline())]


def test_an_engine_of_its_own_gives_the_same_bits_and_leaves_nothing(
    config, tmp_path, left_over, monkeypatch
):
    """Its processes tell nobody anything, live in a home of their own, and install nothing."""
    monkeypatch.delenv("FLWR_TELEMETRY_ENABLED")
    list(run(config, tmp_path / "here"))
    running = run(config.with_settings({"runtime.name": "flower"}), tmp_path / "there")
    next(running)
    engines = left_over()
    told = [process.environ() for process in engines]
    assert told and all(own["FLWR_TELEMETRY_ENABLED"] == "0" for own in told)
    homes = {own["FLWR_HOME"] for own in told}
    assert len(homes) == 1 and "spry-flower-" in homes.pop()
    links = named("flower-superlink", engines)
    assert links and all("--disable-runtime-dependency-installation" in one.cmdline() for one in links)
    list(running)
    assert equal(weights(tmp_path / "here"), weights(tmp_path / "there"))
    here, there = read_rounds(tmp_path / "here"), read_rounds(tmp_path / "there")
    for name in ("loss", "test_accuracy", "generalized_accuracy", "bytes_up", "bytes_down"):
        assert [line[name] for line in here] == [line[name] for line in there], name
    assert left_over() == []


@pytest.fixture
def interruptible():
    """Tests may run as a shell's background job, which ignores the signal and would hand that on."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


ENDS = {
    "ctrl-c": (lambda command, engines: command.send_signal(signal.SIGINT), 130, "Stopped"),
    "sigterm": (lambda command, engines: command.send_signal(signal.SIGTERM), 143, "Stopped"),
    "the engine dies": (
        lambda command, engines: [one.kill() for one in named("flwr-simulation", engines)], 1,
        "Flower's engine does not answer",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("end", ENDS)
def test_a_command_that_ends_early_says_so_by_its_status_and_leaves_no_process(
    end, config, tmp_path, left_over
):
    """Flower's own command returns 0 on failure. A superlink that dies is not missed: its server app lives on."""
    act, status, words = ENDS[end]
    path = tmp_path / "flower.toml"
    path.write_text(config.with_settings({"runtime.name": "flower", "schedule.rounds": 500}).dump())
    command = [sys.executable, "-m", "spry", "run", path, "--out", tmp_path / "run"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    ends, log = time.monotonic() + SECONDS, tmp_path / "run" / "rounds.jsonl"
    while not (log.is_file() and log.read_bytes()) and process.poll() is None and time.monotonic() < ends:
        time.sleep(0.1)
    act(process, left_over())
    _, told = process.communicate(timeout=SECONDS)
    assert (process.returncode, words in told) == (status, True), told
    assert read_rounds(tmp_path / "run")
    assert left_over() == []


def test_an_engine_that_cannot_start_says_so_within_its_time(config, tmp_path, monkeypatch, left_over):
    app = write_app(tmp_path / "app", config, server="bridge_app()")
    monkeypatch.setattr(engine, "find_program", lambda name: "/bin/false")
    with (
        pytest.raises(TrainingError, match="Flower's engine does not answer"),
        flower_engine(app, nodes=2, cores=1, seconds=20, threads=1),
    ):
        pass
    assert left_over() == []


@pytest.fixture
def apart(tiny_csv, tmp_path):
    """Two nodes' files, and one with the rows of both, whose column ``node`` tells whose they are."""
    rows = [
        {**row, "node": int(row["author"] > "author-2")}
        for row in csv.DictReader(tiny_csv.open(encoding="utf-8"))
    ]
    parts = [[row for row in rows if row["node"] == node] for node in range(2)]
    files = [tmp_path / f"node{node}.csv" for node in range(2)]
    for file, part in zip(files, parts, strict=True):
        write_rows(file, part)
    write_rows(tmp_path / "together.csv", [*parts[0], *parts[1]])
    return files, tmp_path / "together.csv"


@pytest.mark.skipif(
    not (shutil.which("openssl") and shutil.which("ssh-keygen")),
    reason="openssl and ssh-keygen make the keys",
)
def test_two_nodes_over_tls_with_their_own_files_give_the_weights_of_one_process(config, apart, tmp_path):
    files, together = apart
    there = agreed(
        config.with_settings({
            "data.name": str(together), "data.partition": "column", "data.column": "node", "data.clients": None,
            "runtime.data": "nodes",
        })
    )  # fmt: skip
    app, home, warm = tmp_path / "app", tmp_path / "home", tmp_path / "warm"
    write_deployment(app, there, "federation")
    facts = [f'data="{file}" client={node} socket="{warm}"' for node, file in enumerate(files)]
    with warm_client(warm), Deployment(app, home, facts, {"OMP_NUM_THREADS": "1"}) as deployment:
        status = deployment.run(SECONDS, home / "federation" / "summary.json")
        assert status == "finished:completed", deployment.log("superlink")
    list(run(there.with_settings({"runtime.name": "simulate", "runtime.data": "dealt"}), tmp_path / "here"))
    assert equal(weights(tmp_path / "here"), weights(home / "federation"))
    assert json.loads((home / "federation" / "summary.json").read_text())["failed_replies"] == 0


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("openssl") and shutil.which("ssh-keygen")),
    reason="openssl and ssh-keygen make the keys",
)
def test_a_server_that_is_killed_goes_on_by_the_same_command_to_the_same_weights(config, apart, tmp_path):
    """As the app's README promises; nodes stay as they are."""
    _, together = apart
    there = agreed(config.with_settings({"data.name": str(together), "schedule.rounds": 4}))
    app, home, warm = tmp_path / "app", tmp_path / "home", tmp_path / "warm"
    write_deployment(app, there, "federation")
    facts = [f'socket="{warm}"'] * 2
    with warm_client(warm), Deployment(app, home, facts, {"OMP_NUM_THREADS": "1"}) as deployment:
        killer = threading.Thread(target=kill_the_server, args=(deployment, home / "federation"))
        killer.start()
        assert deployment.run(SECONDS, home / "killed") != "finished:completed"
        killer.join()
        done = len(read_rounds(home / "federation"))
        assert 1 <= done < 4
        status = deployment.run(SECONDS, home / "federation" / "summary.json")
        assert status == "finished:completed", deployment.log("superlink")
    list(run(there.with_settings({"runtime.name": "simulate"}), tmp_path / "here"))
    assert equal(weights(tmp_path / "here"), weights(home / "federation"))
    assert len(read_rounds(home / "federation")) == 4


def kill_the_server(deployment, folder):
    """SIGKILL the server app once a round is logged; ``killed`` beside the folder tells of it."""
    ends, log = time.monotonic() + SECONDS, folder / "rounds.jsonl"
    while time.monotonic() < ends and not (log.is_file() and log.read_bytes()):
        time.sleep(0.05)
    for process in deployment.processes():
        with contextlib.suppress(psutil.Error):
            if "serverapp" in " ".join(process.cmdline()):
                process.kill()
    (folder.parent / "killed").touch()
