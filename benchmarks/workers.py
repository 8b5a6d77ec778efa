"""What a second process gains: rounds of the quickstart alone and dealt, turn by turn, on the same clients.

    python benchmarks/workers.py --minutes 3 --out benchmarks/results/workers.json

Each turn runs a round and an evaluation three times: alone on one thread, dealt over two processes of one thread each,
and alone on two threads. So whatever else the machine does slows all three alike. The weights after each round, and the
loss of each evaluation, are compared bit by bit. ``scale`` computes from these numbers what more processes and clients
would take.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import torch

from spry.core.params import digest, nbytes
from spry.experiment.atomic import write_json
from spry.experiment.build import Experiment, build
from spry.experiment.config import Config, load_config
from spry.experiment.given import NOTHING
from spry.experiment.provenance import provenance
from spry.experiment.workers import Workers, at_work
from spry.runtime.processes.crew import Crew
from spry.runtime.records import Round
from spry.runtime.rounds import evaluate_parts, simulate

SETTINGS = {
    "runtime.workers": 2,
    "runtime.threads": 1,
    "data.test_examples": 256,
    "schedule.personalized": False,
}
"""Of the quickstart, with fewer test examples, so that a turn takes seconds."""
FOREVER = 10**6
ARMS = ("alone", "dealt", "two threads")
SCALES = ((2, 10), (8, 10), (8, 100), (8, 1000), (8, 10_000))
"""Processes, and clients that a round asks."""
FASTER = (1, 10, 100)
"""How many times faster than here a process runs a client: an assumption, as no GPU was at hand."""


def measure(config: Config, minutes: float) -> dict[str, Any]:
    """Take turns for some minutes, once the helper is there and every arm has had a round."""
    with TemporaryDirectory() as folder, at_work(config, Path(folder), NOTHING) as workers:
        experiment = build(config)
        helper = psutil.Process(_arrived(experiment, workers))
        arms = {arm: _rounds(experiment, workers, dealt=arm == "dealt") for arm in ARMS}
        for arm in ARMS:
            turn(experiment, workers, arms[arm], arm, helper)  # the first round measures memory, and counts
        torch.set_num_threads(1)
        assert workers.crew is not None
        result = {
            "turns": [],
            "memory": {
                "weights_bytes": nbytes(dict(experiment.task.module.named_parameters())),
                "leader": _memory(psutil.Process()),
                "helper": _memory(helper),
            },
            "serial": _serial(experiment, workers.crew),
        }
        turns, ends = result["turns"], time.monotonic() + 60 * minutes
        while time.monotonic() < ends:
            order = ARMS[len(turns) % 3 :] + ARMS[: len(turns) % 3]  # none is always first
            load = os.getloadavg()[0]
            made = {arm: turn(experiment, workers, arms[arm], arm, helper) for arm in order}
            turns.append({"load": load, **made})
        return result


def turn(
    experiment: Experiment, workers: Workers, rounds: Iterator[Round], arm: str, helper: psutil.Process
) -> dict[str, Any]:
    """Run an arm's next round, and an evaluation, and time both: by the clock, and by what processors did."""
    torch.set_num_threads(2 if arm == "two threads" else 1)
    begun, busy, helped = time.perf_counter(), time.process_time(), _busy(helper)
    record = next(rounds)
    between = time.perf_counter()
    evaluate = workers.evaluation(experiment) if arm == "dealt" else None
    found = evaluate_parts(experiment.task, record.weights, experiment.clients, evaluate)["test"]
    return {
        "round": between - begun,
        "evaluation": time.perf_counter() - between,
        "leader_cpu": time.process_time() - busy,
        "helper_cpu": _busy(helper) - helped,
        "clients": len(record.clients),
        "bits": f"{digest(record.weights, 16).hex()} {found.loss!r}",
    }


def _busy(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _rounds(experiment: Experiment, workers: Workers, *, dealt: bool) -> Iterator[Round]:
    return simulate(
        experiment.algorithm,
        experiment.task,
        experiment.clients,
        key=experiment.key,
        **{**experiment.schedule, "rounds": FOREVER, "evaluate_every": FOREVER},
        executor=workers.executor if dealt else None,
    )


def _arrived(experiment: Experiment, workers: Workers) -> int:
    """Evaluate until the helper has come, and find its process."""
    while not workers.joined:
        evaluate_parts(
            experiment.task, experiment.task.init(), experiment.clients, workers.evaluation(experiment)
        )
    return workers.joined[0].pid


def _memory(process: psutil.Process) -> dict[str, int]:
    found = process.memory_full_info()
    return {"own_bytes": found.uss, "shared_bytes": found.rss - found.uss}


def _serial(experiment: Experiment, crew: Crew) -> dict[str, Any]:
    """What the leader does for each client, in seconds of a processor: to absorb a reply, and to carry one."""
    state = experiment.algorithm.init(experiment.task.init())
    chosen = experiment.clients.trainable()[:10]
    orders = experiment.algorithm.plan(state, chosen, experiment.key)
    answers = []
    for client in chosen:
        batches = experiment.clients.batches(client, state.round, experiment.key)
        examples = experiment.clients.examples(client)
        result = experiment.algorithm.train(experiment.task.loss, orders[client], batches, examples)
        answers.append((orders[client], result.reply))
    absorb = _seconds(lambda: experiment.algorithm.absorb(state, answers)) / len(answers)
    message = bytes(nbytes(state.weights))
    travel = _seconds(lambda: (crew.box.put("message", message), crew.box.take("message")))
    return {"absorb_seconds": absorb, "message_bytes": len(message), "travel_seconds": travel}


def _seconds(work: Callable[[], object], repeats: int = 20) -> float:
    found = []
    for _ in range(repeats):
        begun = time.process_time()
        work()
        found.append(time.process_time() - begun)
    return median(found)


def speed_up(turns: list[Mapping[str, Any]], what: str, arm: str) -> float:
    """How many times faster than alone, as the median over turns."""
    return median(turn["alone"][what] / turn[arm][what] for turn in turns)


def work(turns: list[Mapping[str, Any]], arm: str) -> float:
    """What processors did, of both processes, as a multiple of alone: two free cores share it."""
    return median(
        (turn[arm]["leader_cpu"] + turn[arm]["helper_cpu"]) / turn["alone"]["leader_cpu"] for turn in turns
    )


def scale(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a round would take: whole waves of clients, and after them what the leader does for each.

    Training and the leader's own work are taken one after the other, though they overlap, and the machines' network to
    be as fast as the mailbox here. ``seconds = ceil(M / N) t / f + M (absorb + travel) + N travel``.
    """
    turns, serial = result["turns"], result["serial"]
    client = median(turn["alone"]["round"] / turn["alone"]["clients"] for turn in turns)
    rows = []
    for processes, clients in SCALES:
        for faster in FASTER:
            training = -(-clients // processes) * client / faster
            reply = serial["absorb_seconds"] + serial["travel_seconds"]
            leader = clients * reply + processes * serial["travel_seconds"]
            rows.append({
                "processes": processes,
                "clients": clients,
                "faster": faster,
                "client_seconds": client / faster,
                "training_seconds": training,
                "leader_seconds": leader,
                "speed_up": (clients * (client / faster + serial["absorb_seconds"])) / (training + leader),
            })
    return rows


def main() -> None:
    """Measure, compute and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/workers.json"))
    parser.add_argument("--minutes", type=float, default=3.0)
    arguments = parser.parse_args()
    made = provenance()
    result: dict[str, Any] = {
        "provenance": made,
        **measure(load_config("quickstart", SETTINGS), arguments.minutes),
    }
    result["speed_up"] = {
        arm: {what: speed_up(result["turns"], what, arm) for what in ("round", "evaluation")}
        for arm in ARMS[1:]
    }
    result["work"] = {arm: work(result["turns"], arm) for arm in ARMS[1:]}
    result["equal_bits"] = {
        arm: sum(turn[arm]["bits"] == turn["alone"]["bits"] for turn in result["turns"]) for arm in ARMS[1:]
    }
    result["scale"] = scale(result)
    write_json(arguments.out, result)
    print(
        json.dumps(
            {name: result[name] for name in ("speed_up", "work", "equal_bits", "memory", "serial")}, indent=2
        )
    )


if __name__ == "__main__":
    main()
