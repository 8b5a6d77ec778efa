"""Whole runs of 1,024 rounds that train the last block alone: which order methods have where they have time.

SST-2 and all settings are those of ``comparison.py`` at alpha 1, but that five clients are asked a round, each for one
direction a step, that the head stays in closed form, and that LoRA of rank 1, or a square matrix in each map (LoRA-XS,
rank 4), is in MiniLM's last block alone. All below it is frozen, and is run once for each text (``remembered.py``).
Each row tries three step sizes over 64 rounds, judged on 800 examples of the training part. What learns slowly may
bear a larger one than these tell: ``--lr`` runs with another.

    python -m benchmarks.long_runs DATA --out runs/long [--rows spry,fedavg] [--seeds 0] [--lr 0.01] [--rounds 1024]

What is in the file is not run again. A killed run goes on from its last checkpoint. Two processes may share the file.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.comparison import CONFIG, best_of, outcome
from benchmarks.comparison_rows import ADAMW, BLOCK, FEW, RANK_ONE, ROWS, Row
from benchmarks.convergence_data import SETS, files
from benchmarks.privacy_features import numbers
from benchmarks.remembered import remembering
from benchmarks.results_file import add, known, read

from spry.experiment.config import Config, read_config
from spry.experiment.run import run

RESULTS = Path("benchmarks/results/long_runs.json")
ROUNDS, TRIED_ROUNDS, EVERY = 1024, 64, 64
LORA = {**RANK_ONE, "peft.exact": "head", "peft.targets": [f"layer.5.{name}" for name in BLOCK]}
SETTINGS = {
    **SETS["sst2"].settings, "data.alpha": 1.0, "step_factors.head": 0.0, "schedule.clients_per_round": 5,
    "schedule.evaluate_every": EVERY, "schedule.checkpoint_every": EVERY,
}  # fmt: skip
TRIED = {
    "schedule.rounds": TRIED_ROUNDS, "schedule.evaluate_every": TRIED_ROUNDS, "schedule.test": False,
    "data.validation": 0.1, "data.test_examples": 800,
}  # fmt: skip


def _one_direction(row: Row) -> Row:
    return replace(row, method={**row.method, "num_directions": 1})


LONG: Mapping[str, Row] = {
    "fedavg": Row(title="FedAvg, LoRA", method={"name": "fedavg"}, settings={**ADAMW, **LORA}),
    "spry": replace(ROWS["spry"], title="Spry, LoRA", settings={**ADAMW, **LORA}),
    "fedmezo": replace(
        ROWS["fedmezo"], title="FedMeZO, LoRA", settings={**ROWS["fedmezo"].settings, **LORA}
    ),
    "fedavg_few": Row(
        title="FedAvg, few dimensions", method={"name": "fedavg"}, settings={**ADAMW, **FEW}
    ),
    "spry_few": _one_direction(ROWS["spry_few"]),
    "fedmezo_few": _one_direction(ROWS["fedmezo_few"]),
}  # fmt: skip


def main() -> None:
    """Try step sizes, then run, whatever is missing of what is asked for."""
    args = _arguments()
    with remembering():
        for row in args.rows:
            for lr in LONG[row].tries(1.0):
                _carry_out(args, "trials", {"row": row, "seed": 0, "lr": lr}, TRIED)
        for seed, row in product(args.seeds, args.rows):
            lr = args.lr or chosen_lr(read(args.results)["trials"], row)
            rounds = {"schedule.rounds": args.rounds}
            _carry_out(args, "runs", {"row": row, "seed": seed, "rounds": args.rounds, "lr": lr}, rounds)


def chosen_lr(trials: Iterable[Mapping[str, Any]], row: str) -> float:
    """The step size that a row's trials choose."""
    return best_of(one for one in trials if one["row"] == row)["lr"]


def _carry_out(
    args: argparse.Namespace, kind: str, place: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    if known(args.results, kind, place):
        return
    folder = args.out / kind / "-".join(map(str, place.values()))
    config = configured(place, args.data, args.out).with_settings(settings)
    for _ in run(config, folder, resume=True):
        pass
    found = outcome(folder, config)
    kept = (
        "curve",
        "validation_loss",
        "bytes_up_per_client_round",
        "bytes_down_per_client_round",
        "provenance",
    )
    found = {key: found[key] for key in (*kept, "trainable_weights") if key in found}
    add(args.results, kind, {**place, **found})
    print(kind, folder.name, found["curve"][0][1], found["curve"][-1][1], flush=True)


def configured(place: Mapping[str, Any], data: Path, out: Path) -> Config:
    """The settings of a row with a step size and a seed."""
    row = LONG[place["row"]]
    method = {f"method.{option}": value for option, value in row.method.items()}
    own = {"seed": place["seed"], f"{row.stepper}.lr": place["lr"]}
    return read_config(CONFIG).with_settings({
        **SETTINGS, **files("sst2", data, out), **row.settings, **method, **own
    })  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of the tab-separated files of SST-2")
    parser.add_argument("--out", type=Path, required=True, help="run folders")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--rows", type=lambda text: text.split(","), default=[*LONG])
    parser.add_argument("--seeds", type=numbers, default="0")
    parser.add_argument("--lr", type=float, help="a step size instead of the one that trials choose")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
