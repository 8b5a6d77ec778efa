"""What two of ten clients that lie do to a run, by how the server unites replies: MiniLM on tweets.

    python -m benchmarks.robust --out benchmarks/results/robust.json

All ten clients are asked in each round and train head and LoRA for one step by FedAvg; examples lie with them alike.
The first two send the opposite of what they learnt, or a multiple of that.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from spry.experiment.atomic import write_json
from spry.experiment.build import build, build_algorithm
from spry.experiment.config import Config, read_config
from spry.experiment.provenance import provenance
from spry.runtime import client_runner
from spry.runtime.executor import Completed, Failure
from spry.runtime.rounds import evaluate_parts, simulate
from spry.wire.codec import decode_reply, encode_reply
from spry.wire.messages import Order, Weights

OUT = Path("benchmarks/results/robust.json")
CLIENTS, LIARS = 10, 2
SETTINGS: Mapping[str, Any] = {
    "method.name": "fedavg", "method.checkpoint": False, "head.start": "drawn", "data.clients": CLIENTS,
    "data.partition": "iid", "data.test_examples": 200, "model.max_length": 16, "client.lr": 5e-3, "client.steps": 1,
    "client.batch_size": 4, "schedule.clients_per_round": CLIENTS, "schedule.rounds": 10,
    "schedule.personalized": False, "schedule.evaluate_every": 10,
}  # fmt: skip
LIES: Mapping[str, float | None] = {"none": None, "sign-flipped": -1.0, "scaled by -10": -10.0}
"""What liars multiply their update with."""
RULES: Mapping[str, Mapping[str, Any]] = {
    "mean": {},
    "mean, clipped to 0.5": {"server.clip": 0.5},
    "trimmed mean, 20 % at each end": {"server.aggregate": "trimmed-mean"},
    "median": {"server.aggregate": "median"},
}


@dataclass(frozen=True)
class Lying:
    """Runs clients in turn, of which the first ones multiply their update."""

    factor: float | None

    def run(
        self, orders: Sequence[Order], train: Callable[[Order], Completed], deadline: float | None = None
    ) -> Generator[Completed | Failure]:
        """Carry out the orders."""
        for order in orders:
            done = train(order)
            lies = self.factor is not None and order.client < LIARS
            yield done._replace(data=self._lie(done.data, order)) if lies else done

    def _lie(self, data: bytes, order: Order) -> bytes:
        reply, start = decode_reply(data, order), order.weights
        assert isinstance(reply.payload, Weights) and self.factor is not None
        moved = {
            name: start[name] + self.factor * (value - start[name])
            for name, value in reply.payload.values.items()
        }
        return encode_reply(replace(reply, payload=Weights(moved)), order)


def measure(seeds: Sequence[int], out: Path) -> None:
    """Run every rule against every lie, and write the scores as they come."""
    made, runs = provenance(), list[dict[str, Any]]()
    for seed in seeds:
        config = read_config("plain", {**SETTINGS, "seed": seed})
        experiment = build(config)
        start = evaluate_parts(experiment.task, experiment.task.init(), experiment.clients)["test"]
        for lie, factor in LIES.items():
            for rule, settings in RULES.items():
                *_, last = simulate(
                    build_algorithm(config.with_settings(settings), experiment.task.units),
                    experiment.task,
                    experiment.clients,
                    key=experiment.key,
                    executor=Lying(factor),
                    **experiment.schedule,
                )
                score = {"accuracy": last.score, "loss": last.test.loss if last.test else None}
                runs.append({"seed": seed, "lie": lie, "rule": rule, **score, "start": dict(start.values())})
                print(runs[-1], flush=True)
                write_json(out, {"provenance": made, "settings": _plain(config), "runs": runs})


def _plain(config: Config) -> dict[str, Any]:
    return {key: config.flat()[key] for key in SETTINGS}


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    with patch.object(
        client_runner, "peak_of", lambda step, device: step() or 0
    ):  # memory is not what is asked
        measure(asked.seeds, asked.out)


if __name__ == "__main__":
    main()
