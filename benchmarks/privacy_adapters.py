"""Accuracy against epsilon of adapters on SST-2 with 1,000 clients: DP-FedAvg, and slopes alone in few dimensions.

Whole runs of ``spry run``: the head in closed form from noised sums of all clients, which then stays, and LoRA or
LoRA-XS in MiniLM's last block. The server steps by Adam. Each client has 8 of the 8,000 training texts of
``privacy.py``. All below the last block is frozen, and is run once for each text (``remembered.py``). The server's step
size is chosen for each method at epsilon 3 on two seeds of its own, by the accuracy that is reported, and that choice
is not private.

    python -m benchmarks.privacy_adapters DATA_FOLDER [--seeds 0,1,2] [--rows fedavg] [--out FILE]

Runs that are in the file are not made again; two processes may share it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.comparison_rows import BLOCK
from benchmarks.privacy import DELTA, EPSILONS, ROUNDS, TUNING_EPSILON
from benchmarks.privacy_features import CLIENTS, EACH, numbers
from benchmarks.remembered import remembering
from benchmarks.results_file import known, locked, read

from spry.core.keys import Key
from spry.experiment.atomic import write_json
from spry.experiment.config import load_config
from spry.experiment.log import read_rounds
from spry.experiment.provenance import provenance
from spry.experiment.run import run

OUT = Path("benchmarks/results/privacy_adapters.json")
TUNING_SEEDS = (9, 10)
SETTINGS: Mapping[str, Any] = {
    "model.name": "minilm", "model.max_length": 32, "head.start": "closed-form", "step_factors.head": 0.0,
    "peft.exact": "head", "peft.targets": [f"layer.5.{name}" for name in BLOCK],
    "data.text": ["sentence"], "data.partition": "iid", "data.clients": CLIENTS, "data.held_out": 0.0,
    "schedule.rounds": ROUNDS, "schedule.clients_per_round": 100, "schedule.evaluate_every": ROUNDS,
    "schedule.personalized": False, "server.optimizer": "adam", "client.batch_size": EACH,
    "privacy.mechanism": "central", "privacy.unit": "client", "privacy.delta": DELTA,
    "privacy.head_clip": 1.0, "privacy.head_examples": EACH, "privacy.head_share": 0.5,
}  # fmt: skip
FEW = {"peft.kind": "lora_xs", "peft.rank": 4, "peft.alpha": 4.0}
LOCAL = {
    "method.name": "fedavg",
    "client.optimizer": "sgd",
    "client.lr": 0.1,
    "client.steps": 2,
}
SLOPES = {"method.num_directions": 16, "method.split": "everything", "client.steps": 1}


@dataclass(frozen=True)
class Row:
    """A method as it is run.

    Args:
        title: Its name in tables.
        settings: What is set for it.
        clip: Norm to which a client's update, or its slopes together, are shortened.
        step_sizes: What the server may try.
    """

    title: str
    settings: Mapping[str, Any]
    clip: float
    step_sizes: Sequence[float]


ROWS: Mapping[str, Row] = {
    "fedavg": Row(
        "DP-FedAvg, LoRA",
        {"peft.kind": "lora", "peft.rank": 1, "peft.alpha": 1.0, **LOCAL},
        0.04,
        (3e-3, 0.01, 0.03, 0.1, 0.3),
    ),
    "fedavg_few": Row("DP-FedAvg, few dimensions", {**FEW, **LOCAL}, 0.12, (0.03, 0.1, 0.3)),
    "spry_few": Row(
        "slopes alone, few dimensions",
        {**FEW, "method.name": "spry_per_iteration", **SLOPES},
        2.0,
        (0.03, 0.1, 0.3),
    ),
}


def texts(folder: Path, out: Path) -> Path:
    """Write the training texts that ``privacy_features.py`` draws, too."""
    head, *rows = (
        gzip.decompress((folder / "sst2_train.tsv.gz").read_bytes()).decode().rstrip("\n").split("\n")
    )
    kept = sorted(Key(0).permutation(len(rows), "privacy")[: CLIENTS * EACH])
    made = out / "sst2.tsv"
    made.write_text("\n".join([head, *(rows[place] for place in kept), ""]), encoding="utf-8")
    return made


def outcome(place: Mapping[str, Any], train: Path, test: Path, folder: Path) -> dict[str, Any]:
    """Run, and tell the accuracy before round 1 and after the last, and what was spent."""
    epsilon, row = place["epsilon"], ROWS[place["row"]]
    budget = (
        {"privacy.noise": 0.0, "privacy.head_noise": 0.0} if epsilon is None else {"privacy.epsilon": epsilon}
    )
    config = load_config(
        "plain",
        {
            **SETTINGS,
            **row.settings,
            "privacy.clip": row.clip,
            **budget,
            "server.lr": place["lr"],
            "seed": place["seed"],
            "data.name": str(train),
            "data.test": str(test),
        },
    )
    list(run(config, folder))
    rounds = read_rounds(folder)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return {
        "start": rounds[0]["start"]["test_accuracy"],
        "accuracy": rounds[-1]["test_accuracy"],
        "spent": rounds[-1]["epsilon"],
        "trainable_weights": summary["trainable_weights"],
    }


def main() -> None:
    """Run what is not in the file yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the files of SST-2 are")
    parser.add_argument("--seeds", type=numbers, default="0,1,2")
    parser.add_argument("--rows", type=lambda text: text.split(","), default=list(ROWS))
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    for row in asked.rows:
        for lr, seed in product(ROWS[row].step_sizes, TUNING_SEEDS):
            _run(asked, {"row": row, "epsilon": TUNING_EPSILON, "lr": lr, "seed": seed})
    for seed, row, epsilon in product(asked.seeds, asked.rows, EPSILONS):
        budget = None if epsilon == float("inf") else epsilon
        _run(
            asked, {"row": row, "epsilon": budget, "lr": best_lr(read(asked.out)["runs"], row), "seed": seed}
        )


def best_lr(runs: Sequence[Mapping[str, Any]], row: str) -> float:
    """The step size that reached most on average when it was chosen."""
    tried: dict[float, list[float]] = {}
    for one in runs:
        if one["row"] == row and one["seed"] in TUNING_SEEDS:
            tried.setdefault(one["lr"], []).append(one["accuracy"])
    return max(tried, key=lambda lr: fmean(tried[lr]))


def _run(asked: argparse.Namespace, place: Mapping[str, Any]) -> None:
    if known(asked.out, "runs", place):
        return
    with (
        tempfile.TemporaryDirectory() as made,
        remembering(),
    ):
        train = texts(asked.folder, Path(made))
        found = {**place, **outcome(place, train, asked.folder / "sst2_dev.tsv.gz", Path(made) / "run")}
    print(found, flush=True)
    with locked(asked.out):
        runs = [*read(asked.out)["runs"], found]
        write_json(asked.out, {"provenance": provenance(), "settings": SETTINGS, "runs": runs})


if __name__ == "__main__":
    main()
