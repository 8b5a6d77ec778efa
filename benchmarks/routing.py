"""Flow against local tuning and the global model: some tweets dealt at alpha 0.1, MiniLM as in the recipe quickstart.

Two runs with the same clients, rounds, gradients and step sizes: plain averaging, whose clients tune the final weights
locally, and Flow, whose clients make a local adapter by as many steps and then route. Local tuning of a routed client
costs as many steps again. ``python -m benchmarks.routing --out benchmarks/results/routing.json``.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import spry.contrib.flow  # ruff: ignore[unused-import]  # registers the method, also where it is not installed
from spry.core.keys import Key
from spry.data.client_data import TEST_SHARE
from spry.data.datasets import load_splits
from spry.experiment.config import Config, load_config
from spry.experiment.folder import SUMMARY
from spry.experiment.local_tuning import LOCAL_TUNING
from spry.experiment.provenance import provenance
from spry.experiment.run import run

ARMS = {
    "averaging": {"method.name": "residual", "method.blocks_per_step": 2},
    "flow": {"method.name": "flow", "method.gradient": "residual", "method.blocks_per_step": 2},
}
SAME = {
    "data.alpha": 0.1,
    "data.separator": ",",
    "data.held_out": 0.3,
    "client.optimizer": "adamw",
    "client.lr": 1e-3,
    "server.optimizer": "sgd",
    "server.lr": 1.0,
    "peft.exact": "auto",
    "schedule.personalized": False,
    "schedule.evaluate_start": False,
    "schedule.test": False,
}


def some_tweets(count: int, place: Path) -> Path:
    """Write so many tweets of the training part, drawn at random, to a file: a run with all of them takes hours."""
    train = load_splits("tweets", text=["text"], label="label", test_fraction=TEST_SHARE).train
    drawn = Key(0).fold("tweets").permutation(len(train))[:count]
    with place.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        rows.writerows([train.texts[i], train.label_names[train.labels[i]]] for i in drawn)
    return place


def config(arm: str, args: argparse.Namespace, seed: int, data: Path) -> Config:
    """The settings of one arm."""
    sizes = {
        "data.name": data,
        "data.clients": args.clients,
        "schedule.rounds": args.rounds,
        "schedule.evaluate_every": args.rounds,
        "schedule.clients_per_round": args.asked,
        "schedule.local_tuning": args.tuning,
        "client.steps": args.steps,
        "step_factors.head": args.head,
        "seed": seed,
    }
    given = {**SAME, **sizes, **ARMS[arm]}
    return load_config("quickstart", [f"{key}={_written(value)}" for key, value in given.items()])


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def trained(arm: str, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Run one arm; what its summary says of local tuning, and each client's scores."""
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as place:
        folder, data = Path(place) / arm, some_tweets(args.examples, Path(place) / "tweets.csv")
        for _ in run(config(arm, args, seed, data), folder):
            pass
        summary = json.loads((folder / SUMMARY).read_text())
        clients = json.loads((folder / LOCAL_TUNING).read_text())["clients"]
    for client in clients:
        if "own_details" in client:
            client["own_details"] = counted(client["own_details"])
    costs = (
        "operations",
        "bytes_up_per_client_round",
        "bytes_down_per_client_round",
        "peak_bytes_above_model",
    )
    return {
        **summary["local_tuning"],
        **{name: summary[name] for name in costs},
        "cpu_seconds": round(time.process_time() - begun, 1),
        "per_client": clients,
    }


def counted(details: dict[str, Any]) -> dict[str, Any]:
    """Count a client's instances by who is right and who has the larger say, in place of a list of each."""
    gates, *right = (details[name] for name in ("gates", "global_right", "local_right"))
    count: dict[str, int] = {}
    for gate, whole, own in zip(gates, *right, strict=True):
        found = {(1, 1): "both", (1, 0): "global alone", (0, 1): "local alone", (0, 0): "neither"}[whole, own]
        asked = "local" if gate > 0.5 else "global"
        count[f"{found} right, {asked} asked"] = count.get(f"{found} right, {asked} asked", 0) + 1
    return {
        "local_share": details["local_share"],
        "either_right": details["either_right"],
        "instances": count,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Run both arms with every seed; the file is written after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--examples", type=int, default=2400, help="a fifth of them is left out as a test part"
    )
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--asked", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=2, help="local steps of a round")
    parser.add_argument("--tuning", type=int, default=8, help="local steps after the last round")
    parser.add_argument(
        "--head", default="1", help="factor on the head's step size; auto keeps it as the recipe does"
    )
    args = parser.parse_args(argv)
    settings = {name: value for name, value in vars(args).items() if name != "out"}
    found: dict[str, Any] = {"provenance": provenance(), "settings": {**settings, **SAME}, "seeds": {}}
    for seed in args.seeds:
        for arm in ARMS:
            found["seeds"].setdefault(str(seed), {})[arm] = trained(arm, args, seed)
            args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
