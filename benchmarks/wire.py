"""What travels in a run of 100 rounds, what replaying costs the server, and whether its memory depends on the clients.

    python benchmarks/wire.py --out benchmarks/results/wire.json

MiniLM with LoRA r=1, 100 clients of which ten are asked a round, 13 local steps (one per iteration). Bytes follow from
shapes, steps and K, not from what is learnt: the rounds run on a stand-in for the loss, ``|w|^2 / 2``, and the first
round of each mode is run with the model as well and has to give the same bytes, client by client.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from wire_server import absorb_memory, replay_cost
from wire_stand_in import StandIn

from spry.core.keys import Key
from spry.experiment.atomic import write_json
from spry.experiment.build import Experiment, build
from spry.experiment.config import Config, read_config
from spry.experiment.provenance import provenance
from spry.runtime.records import Round
from spry.runtime.rounds import simulate
from spry.tasks.task import Task
from spry.wire.codec import encode_reply
from spry.wire.messages import Order, Reply, Slopes

STEPS, CLIENTS = 13, 100
CHEAP = {
    "data.clients": CLIENTS,
    "data.partition": "iid",
    "data.test_examples": 16,
    "model.max_length": 8,
    "peft.rank": 1,
    "peft.exact": "head",
    "client.batch_size": 1,
    "client.steps": STEPS,
    "schedule.clients_per_round": 10,
    "schedule.evaluate_every": 1_000_000,
    "schedule.personalized": False,
}
SLOPES = {"method.name": "spry", "method.send": "slopes", "server.send": "slopes"}
ITERATION = {"method.name": "spry_per_iteration", "server.send": "slopes", "client.steps": 1}
PERTURBED = {"peft.exact": "nothing"}
MODES: dict[str, dict[str, Any]] = {
    "weights up, weights down (FedAvg)": {"method.name": "fedavg"},
    "slices up, weights down (Spry)": {"method.name": "spry"},
    "slopes up and down (Spry)": SLOPES,
    "slopes up and down, head perturbed too": SLOPES | PERTURBED,
    "slopes up and down, per iteration": ITERATION,
    "slopes up and down, per iteration, head perturbed too": ITERATION | PERTURBED,
}


def traffic(base: Config) -> list[dict[str, Any]]:
    """Bytes of each mode: of a client's round, and of a client over the whole run."""
    rows = []
    for label, settings in MODES.items():
        experiment = build(base.with_settings(settings))
        rounds = list(_rounds(experiment, StandIn(experiment.task), base.schedule.rounds))
        real = next(_rounds(experiment, experiment.task, base.schedule.rounds))
        assert _sizes([real]) == _sizes(rounds[:1]), label
        sizes = _sizes(rounds)
        up, down = fmean(u for _, u, _ in sizes), fmean(d for _, _, d in sizes)
        row = {
            "mode": label,
            "settings": settings,
            "bytes_up_per_client_round": up,
            "bytes_down_per_client_round": down,
            "bytes_up_per_client_run": up * len(sizes) / CLIENTS,
            "bytes_down_per_client_run": down * len(sizes) / CLIENTS,
            "bytes_down_largest": max(d for _, _, d in sizes),
            "clients_asked": len({client for client, _, _ in sizes}),
            "upload_besides_exact_head": _besides_head(experiment, up),
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def _rounds(experiment: Experiment, task: Task, rounds: int) -> Iterator[Round]:
    return simulate(
        experiment.algorithm,
        task,
        experiment.clients,
        key=experiment.key,
        rounds=rounds,
        clients_per_round=CHEAP["schedule.clients_per_round"],
        evaluate_every=CHEAP["schedule.evaluate_every"],
        downlink=experiment.downlink,
    )


def _sizes(rounds: Sequence[Round]) -> list[tuple[int, int, int]]:
    return [(c.client, c.bytes_up, c.bytes_down) for record in rounds for c in record.clients]


def _besides_head(experiment: Experiment, up: float) -> float | None:
    """What a reply of slopes takes without the head's own tensors."""
    exact = experiment.algorithm.slopes_exact
    if exact is None:
        return None
    weights = experiment.task.init()
    order = Order(round=0, client=0, weights=weights, trained=tuple(weights), key=Key(0))
    head = {name: value for name, value in weights.items() if name in exact}
    with_head, without = (
        encode_reply(
            Reply(
                round=0, client=0, examples=0, payload=Slopes(torch.zeros(0, 0), beside), steps=0, loss=0.0
            ),
            order,
        )
        for beside in (head, {})
    )
    return up - (len(with_head) - len(without))


def main() -> None:
    """Run all parts and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/wire.json"))
    parser.add_argument("--rounds", type=int, default=100)
    arguments = parser.parse_args()
    base = read_config("quickstart").with_settings({**CHEAP, "schedule.rounds": arguments.rounds})
    result: dict[str, Any] = {
        "provenance": provenance(),
        "setting": {"rounds": arguments.rounds, "seed": base.seed, **CHEAP},
        "replay": replay_cost(base, STEPS),
        "absorb": absorb_memory(base),
        "traffic": traffic(base),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
