"""Rounds over Flower, with nodes on this machine and TLS, against one process and against Flower's own FedAvg.

    python -m benchmarks.flower [--rounds 10] [--nodes 4] [--out benchmarks/results/flower.json]

Every row trains MiniLM's LoRA weights and head on tweets, each node one client, four local steps a round: Spry's FedAvg
in one process, over Flower with a process a message, over Flower with a warm client; and Flower's FedAvg around
the same local training. Bytes are those of Spry's messages or of Flower's records, and all that crossed the loopback.
Processor seconds are those of all processes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch
from benchmarks.deployment import MARK, Deployment
from benchmarks.processor_meter import ProcessorMeter
from safetensors.torch import load_file

from spry.core.params import Params
from spry.experiment import log
from spry.experiment.atomic import write_json
from spry.experiment.checkpoint import CHECKPOINT_FILE
from spry.experiment.config import Config, load_config
from spry.experiment.flower_folder import write_deployment
from spry.experiment.provenance import provenance
from spry.experiment.run import run

SETTINGS = {
    "method.name": "fedavg",
    "head.start": "drawn",
    "client.steps": 4,
    "schedule.personalized": False,
    "schedule.evaluate_start": False,
    "schedule.test": False,
    "schedule.evaluate_every": 1000,
    "data.held_out": 0.0,
    "runtime.wait": 3600.0,
}
"""Training alone: what is evaluated would be the same in every row, and Flower's strategy evaluates otherwise."""
SECONDS = 7200.0
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
IN_ONE, OVER_FLOWER, WARM, RIVAL_ROW = (
    "one process",
    "Spry over Flower, a process a message",
    "Spry over Flower, warm client",
    "Flower's FedAvg, a process a message",
)
"""The rows, in their order."""
RIVAL = '''"""Flower's FedAvg, for the comparison."""

from benchmarks.flower_rival import client, server

__all__ = ["client", "server"]
'''


def weights(folder: Path) -> Params:
    """Read the weights that a run ended with."""
    return {
        name.removeprefix("weights/"): value
        for name, value in load_file(folder / CHECKPOINT_FILE).items()
        if name.startswith("weights/")
    }


def summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum rows of rounds up: the median of seconds without the first round, which loads, and bytes a round."""
    later = rounds[1:] or rounds
    return {
        "rounds": len(rounds),
        "seconds_first_round": rounds[0]["seconds"],
        "seconds_per_round": median(one["seconds"] for one in later),
        "bytes_up_per_round": median(one["bytes_up"] for one in later),
        "bytes_down_per_round": median(one["bytes_down"] for one in later),
    }


def deployed(config: Config, folder: Path, nodes: int, *, warm: bool) -> tuple[dict[str, Any], Params]:
    """Run over Flower, with or without a client that stays warm on each node."""
    app, home = folder / "app", folder / "home"
    write_deployment(app, config, "spry")
    sockets = [folder / f"{number}.sock" for number in range(nodes)] if warm else []
    facts = [f"partition-id={number}" for number in range(nodes)]
    if warm:
        facts = [f'{fact} socket="{socket}"' for fact, socket in zip(facts, sockets, strict=True)]
    with Deployment(app, home, facts, ONE_THREAD) as deployment, _warm_clients(sockets, deployment.mark):
        spent = _spent(deployment, home / "spry" / "summary.json")
    return _counted(log.read_rounds(home / "spry"), spent), weights(home / "spry")


@contextlib.contextmanager
def _warm_clients(sockets: Sequence[Path], mark: str) -> Generator[None]:
    """One process for each node that keeps its model; its processor seconds count with the deployment's."""
    variables = {**os.environ, **ONE_THREAD, MARK: mark}
    kept = [
        subprocess.Popen([sys.executable, "-m", "spry", "client", "--serve", str(socket)], env=variables)
        for socket in sockets
    ]
    try:
        yield
    finally:
        for process in kept:
            process.kill()
            process.wait()


def _spent(deployment: Deployment, done: Path) -> dict[str, Any]:
    """Run an app: how it ended, the bytes that crossed the loopback, and its processes' processor seconds."""
    before = _crossed()
    with ProcessorMeter(MARK, deployment.mark) as meter:
        status = deployment.run(SECONDS, done)
        return {"status": status, "crossed": _crossed() - before, "cpu_seconds": meter.seconds()}


def _counted(rounds: list[dict[str, Any]], spent: dict[str, Any]) -> dict[str, Any]:
    """Set a deployment's rounds beside what it spent."""
    return {
        "status": spent["status"],
        **summary(rounds),
        "bytes_loopback_per_round": spent["crossed"] / len(rounds),
        "cpu_seconds_per_round": spent["cpu_seconds"] / len(rounds),
    }


def rival(config: Config, folder: Path, nodes: int) -> tuple[dict[str, Any], Params]:
    """Run Flower's own FedAvg on the same work."""
    app, home, out = folder / "app", folder / "home", folder / "rounds.json"
    write_deployment(app, config, "rival")
    (app / "spry_app.py").write_text(RIVAL, encoding="utf-8")
    settings = f'config = "{app / "config.toml"}"\nnodes = {nodes}\nrounds = {config.schedule.rounds}\n'
    text = (app / "pyproject.toml").read_text(encoding="utf-8")
    text = text.replace('out = "rival"', f'out = "{out}"\n{settings}')
    (app / "pyproject.toml").write_text(text, encoding="utf-8")
    facts = [f"partition-id={number}" for number in range(nodes)]
    with Deployment(app, home, facts, ONE_THREAD) as deployment:
        spent = _spent(deployment, out)
    rounds = json.loads(out.read_text(encoding="utf-8"))["rounds"]
    return _counted(rounds, spent), torch.load(out.with_suffix(".pt"))


def _crossed() -> int:
    return psutil.net_io_counters(pernic=True)["lo"].bytes_sent


def furthest(left: Params, right: Params) -> float:
    """Largest difference between two sets of weights."""
    return max(float((left[name] - right[name]).abs().max()) for name in left)


def measure(config: Config, nodes: int) -> dict[str, Any]:
    """Run every row."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        before = time.process_time()
        list(run(config.with_settings({"runtime.name": "simulate"}), folder / "here"))
        seconds, rounds = time.process_time() - before, log.read_rounds(folder / "here")
        here = weights(folder / "here")
        rows: dict[str, Any] = {IN_ONE: {**summary(rounds), "cpu_seconds_per_round": seconds / len(rounds)}}
        for name, row in (
            (OVER_FLOWER, lambda to: deployed(config, to, nodes, warm=False)),
            (WARM, lambda to: deployed(config, to, nodes, warm=True)),
            (RIVAL_ROW, lambda to: rival(config, to, nodes)),
        ):
            to = folder / str(len(rows))
            to.mkdir()
            found, there = row(to)
            rows[name] = {**found, "furthest_weight": furthest(here, there)}
    return rows


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/flower.json"))
    given = parser.parse_args()
    counts = {
        "schedule.rounds": given.rounds,
        "data.clients": given.nodes,
        "schedule.clients_per_round": given.nodes,
        "runtime.nodes": given.nodes,
        "runtime.name": "flower",
    }
    config = load_config("quickstart", {**SETTINGS, **counts})
    begun = time.perf_counter()
    rows = measure(config, given.nodes)
    seconds = time.perf_counter() - begun
    write_json(
        given.out,
        {
            "provenance": provenance(),
            "flower": version("flwr"),
            "seconds": seconds,
            "nodes": given.nodes,
            "settings": config.flat(),
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
