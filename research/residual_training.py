"""What a slope adds to the residual guess in training: MiniLM on SST-2, all examples in one place, head in closed form.

    python -m research.residual_training FOLDER [--seeds 0,1,2] [--only identity,exact] [--out FILE]

FOLDER has ``sst2_train.tsv.gz`` and ``sst2_dev.tsv.gz``. LoRA of rank 16 on queries and values, 120 steps of AdamW on
16 examples, its step size falling to 0, the head fixed at its closed form. Each arm takes the same batches. Runs that
the results have are passed over; what each step costs is counted in matrix products, as multiples of an inference.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from research.residual_setting import RANK, Setting

from spry.contrib.guided import along_guess, auxiliary
from spry.contrib.guided.referee import judged
from spry.core.keys import Key
from spry.core.params import Params, add, tree_map
from spry.core.units import names_of
from spry.estimators.backprop import backprop
from spry.estimators.estimate import Estimator
from spry.estimators.residual import residual
from spry.experiment.atomic import write_json
from spry.experiment.provenance import provenance
from spry.measure.operations import OperationCounter
from spry.optim.rules import adamw, clip
from spry.optim.transform import chain

STEPS, BATCH, RATE, EVERY, COUNTED = 120, 16, 1e-3, 120, 2
Arm = dict[str, Any]

ARMS: dict[str, Callable[[Setting], Arm]] = {
    "last block": lambda setting: {"estimator": residual(blocks_per_step=0)},
    "identity": lambda setting: {"estimator": residual("identity")},
    "identity, length": lambda setting: {"estimator": along_guess(residual("identity"))},
    "identity, referee": lambda setting: {"estimator": residual("identity"), "referee": True},
    "exact": lambda setting: {"estimator": backprop(checkpoint=True)},
    "mlp": lambda setting: {"estimator": residual("mlp")},
    "auxiliary heads": lambda setting: {"estimator": auxiliary(setting.local_heads())},
    "identity, length a block": lambda setting: {"estimator": along_guess(residual("identity"), "block")},
    "auxiliary heads, length": lambda setting: {"estimator": along_guess(auxiliary(setting.local_heads()))},
    "identity, 5 x rate": lambda setting: {"estimator": residual("identity"), "rate": 5 * RATE},
    "identity, 5 x rate, clip": lambda setting: {
        "estimator": residual("identity"), "rate": 5 * RATE, "most": 0.5
    },
    "identity, 5 x rate, referee": lambda setting: {
        "estimator": residual("identity"), "rate": 5 * RATE, "referee": True
    },
    "exact, 5 x rate": lambda setting: {"estimator": backprop(checkpoint=True), "rate": 5 * RATE},
}  # fmt: skip


def train(
    setting: Setting, *, estimator: Estimator, referee: bool = False, rate: float = RATE, most: float = 0.0
) -> dict[str, Any]:
    """Train from the closed form; AdamW's moments last as long as training does."""
    weights, fixed = _moving(setting)
    optimizer = chain(adamw(rate), clip(most)) if most else adamw(rate)
    state = optimizer.init(weights)
    losses, shares, points = [], [], []
    begun = time.perf_counter()
    for step, batch in enumerate(setting.batches(BATCH, STEPS)):
        loss = setting.task.loss(batch, Key(0), fixed)
        found = estimator(loss, weights, setting.key.fold("step", step))
        updates, state = optimizer.update(found.gradient, state, weights)
        updates = tree_map(lambda u, step=step: (1 - step / STEPS) * u, updates)
        if referee:
            updates, share = judged(loss, weights, updates, found.value)
            shares.append(share)
        weights = add(weights, updates)
        losses.append(found.value)
        if (step + 1) % EVERY == 0:
            points.append(setting.evaluate({**fixed, **weights}))
    return {
        "accuracies": [accuracy for accuracy, _ in points],
        "losses": [loss for _, loss in points],
        "train_losses": losses,
        "shares": shares,
        "seconds": time.perf_counter() - begun,
    }


def operations(setting: Setting, *, estimator: Estimator, referee: bool = False, **_: Any) -> float:
    """Count a step's operations on some batches, as a multiple of an inference of the same."""
    weights, fixed = _moving(setting)
    total = inference = 0
    for batch in setting.batches(BATCH, COUNTED):
        loss = setting.task.loss(batch, Key(0), fixed)
        with OperationCounter() as counter:
            found = estimator(loss, weights, Key(0))
            if referee:
                judged(loss, weights, found.gradient, found.value)
        total += counter.total
        with OperationCounter() as counter, torch.no_grad():
            loss(weights)
        inference += counter.total
    return total / inference


def _counted(setting: Setting, names: list[str]) -> dict[str, float]:
    return {name: operations(setting, **ARMS[name](setting)) for name in names if "rate" not in name}


def _moving(setting: Setting) -> tuple[Params, Params]:
    still = set(names_of(u for u in setting.task.units if u.group == "head"))
    weights = {name: value for name, value in setting.weights.items() if name not in still}
    return weights, {name: setting.weights[name] for name in still}


def main() -> None:
    """Run what is not there yet, seed by seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument(
        "--only", default="", help="names of arms, with semicolons between them; all if empty"
    )
    parser.add_argument("--out", type=Path, default=Path("research/results/residual_training.json"))
    parser.add_argument("--count", action="store_true", help="only count operations, of the first seed")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = json.loads(asked.out.read_text(encoding="utf-8")) if asked.out.exists() else {"runs": {}}
    names = asked.only.split(";") if asked.only else list(ARMS)
    for seed in map(int, asked.seeds.split(",")):
        if asked.count:
            counted = _counted(Setting(asked.folder, seed), names)
            write_json(asked.out, {**found, "operations": counted, "provenance": provenance()})
            return
        if all(f"{name} | {seed}" in found["runs"] for name in names):
            continue
        setting = Setting(asked.folder, seed)
        start = setting.evaluate(setting.weights)
        for name in names:
            if f"{name} | {seed}" in found["runs"]:
                continue
            arm = ARMS[name](setting)
            run = {"arm": name, "seed": seed, "start": start, "operations": operations(setting, **arm)}
            found["runs"][f"{name} | {seed}"] = run | train(setting, **arm)
            found["setting"] = {"steps": STEPS, "batch": BATCH, "rate": RATE, "rank": RANK, "every": EVERY}
            write_json(asked.out, {**found, "provenance": provenance()})
            told = found["runs"][f"{name} | {seed}"]
            print(seed, name, round(told["operations"], 2), told["accuracies"], told["losses"], flush=True)


if __name__ == "__main__":
    main()
