"""Watching a run: ``spry status``, metrics for Prometheus, and SIGTERM to a real process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from spry.core.errors import ConfigError
from spry.experiment.checkpoint import CHECKPOINT_FILE
from spry.experiment.config import load_config
from spry.experiment.exporter import exported
from spry.experiment.journal import read_events
from spry.experiment.run import run

LONG = ("--set", "schedule.rounds=20", "--set", "schedule.checkpoint_every=1000")


def test_sigterm_leaves_a_checkpoint_and_resuming_gives_the_same_bits(spry, tiny_config, tmp_path):
    command = [sys.executable, "-m", "spry", "run", str(tiny_config), "--out", "cut", *LONG]
    process = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while _rounds(tmp_path / "cut") < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 143, told
    assert told.endswith("Stopped. Go on with: spry resume cut\n")
    status = spry("status", "cut", "--json")
    assert (status.code, status.document["phase"], status.document["holder"]) == (0, "stopped", None)
    assert 3 <= status.document["rounds_done"] == status.document["checkpoint"] < 20
    assert spry("resume", "cut").code == 0
    assert spry("run", tiny_config, "--out", "whole", *LONG).code == 0
    cut, whole = (load_file(tmp_path / name / CHECKPOINT_FILE) for name in ("cut", "whole"))
    assert cut.keys() == whole.keys() and all(torch.equal(cut[name], whole[name]) for name in cut)


def _rounds(folder: Path) -> int:
    return sum(event["event"] == "round" for event in read_events(folder))


def test_status_of_a_finished_and_of_a_lost_run(spry, tiny_config):
    assert spry("run", tiny_config, "--out", "here").code == 0
    told = spry("status", "here")
    assert told.code == 0
    assert (
        "finished" in told.out and "4 of 4; the checkpoint has 4" in told.out and "test accuracy" in told.out
    )
    events = Path("here/events.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    Path("here/events.jsonl").write_text("".join(events[:-2]), encoding="utf-8")
    Path("here/.lock").write_text(
        json.dumps({"pid": 1, "host": socket.gethostname(), "began": 0.0}), encoding="utf-8"
    )
    told = spry("status", "here")
    assert told.code == 1
    assert "lost; go on with: spry resume here" in told.out and "gone" in told.out


def test_status_of_what_is_no_run(spry):
    told = spry("status", "nowhere")
    assert (told.code, told.out) == (1, "")
    assert "no run folder" in told.err


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_metrics_are_what_prometheus_reads(tiny_config, tmp_path, port):
    parser = pytest.importorskip("prometheus_client.parser")
    with exported(port) as exporter:
        events = list(run(load_config(tiny_config), tmp_path / "run"))
        for event in events:
            exporter.take(event)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }
    rounds = events[1:]
    assert found["spry_rounds_done",] == found["spry_rounds",] == 4
    assert found["spry_loss",] == rounds[-1].loss
    assert found["spry_score", "test", "accuracy"] == rounds[-1].score
    assert found["spry_replies_total", "counted"] == 8 and found["spry_replies_total", "dropped"] == 0
    assert found["spry_sent_bytes_total", "up"] == sum(c.bytes_up for r in rounds for c in r.clients)
    info = next(labels for name, *labels in found if name == "spry_run_info")
    assert {"residual", "0"} <= set(info)
    with pytest.raises(OSError, match="refused"):  # the port is free again
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10)


def test_a_port_that_is_taken_is_told(port):
    pytest.importorskip("prometheus_client")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with (
            pytest.raises(ConfigError, match=f"metrics on port {port}: Address already in use"),
            exported(port),
        ):
            pass


def test_without_the_client_library_the_line_that_installs_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match=r"pip install 'spry-fl\[metrics\]'"), exported(9100):
        pass
