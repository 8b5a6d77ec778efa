"""What the simulation costs beside the clients' own work: engine overhead, memory against clients, starting a client.

    python benchmarks/simulation.py --out benchmarks/results/simulation.json

Overhead is ``1 - sum(client seconds) / round seconds``, per round, with MiniLM on tweets and 10 clients a round. Memory
is the peak above the resident model and data while clients train, with 100 and with 10,000 clients over the same data;
the latter have three examples each, so that both train on batches of two, one step, texts cut to 16 tokens: equal work.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from spry.core.params import nbytes
from spry.experiment import log
from spry.experiment.atomic import write_json
from spry.experiment.build import Experiment, build
from spry.experiment.config import Config, read_config
from spry.experiment.provenance import provenance
from spry.experiment.run import run
from spry.runtime.rounds import simulate

EQUAL_WORK = {
    "data.partition": "iid",
    "client.batch_size": 2,
    "client.steps": 1,
    "model.max_length": 16,
    "schedule.rounds": 1,
}
"""What both sides of the memory comparison do, whatever the number of clients."""


def overhead(config: Config) -> dict[str, Any]:
    """Share of a round's time that is not client compute."""
    with tempfile.TemporaryDirectory() as folder:
        list(run(config, Path(folder)))
        rounds = log.read_rounds(Path(folder))
    shares = [1 - entry["client_seconds"] / entry["seconds"] for entry in rounds]
    return {
        "rounds": len(rounds),
        "overhead_median": median(shares),
        "overhead_max": max(shares),
        "target": 0.03,
    }


def memory(config: Config, clients: int) -> int:
    """Peak bytes above model and data while clients train, exact from the allocator's events, in the first round."""
    experiment = build(config.with_settings({**EQUAL_WORK, "data.clients": clients}))
    rounds = simulate(
        experiment.algorithm,
        experiment.task,
        experiment.clients,
        key=experiment.key,
        **experiment.schedule,
    )
    return next(rounds).peak_bytes


def start(experiment: Experiment, repeats: int = 200) -> dict[str, Any]:
    """Time from an order to the first batch in hand, and bytes of weights that belong to one client alone."""
    algorithm, clients = experiment.algorithm, experiment.clients
    state = algorithm.init(experiment.task.init())
    chosen = clients.trainable()[:10]
    seconds, order = [], None
    for i in range(repeats):
        begun = time.perf_counter()
        order = algorithm.plan(state, chosen, experiment.key)[chosen[i % 10]]
        batches = clients.batches(order.client, order.round, experiment.key)
        seconds.append(time.perf_counter() - begun)
        assert len(batches)
    assert order is not None
    shared = all(order.weights[name] is state.weights[name] for name in order.weights)
    return {
        "start_seconds_median": median(seconds),
        "target_seconds": 1e-3,
        "weights_shared": shared,
        "trainable_bytes": nbytes(state.weights),
    }


def main() -> None:
    """Run all three and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/simulation.json"))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    settings = {
        "schedule.rounds": arguments.rounds,
        "schedule.evaluate_every": 1000,
        "schedule.personalized": False,
    }
    config = read_config("quickstart").with_settings({**settings, "data.test_examples": 64})
    result: dict[str, Any] = {"provenance": provenance(), "overhead": overhead(config)}
    result["start"] = start(build(config))
    peaks = {str(clients): memory(config, clients) for clients in (100, 10_000)}
    result["memory"] = {"peak_bytes": peaks, "ratio": peaks["10000"] / peaks["100"], "target": "0.95 to 1.05"}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
