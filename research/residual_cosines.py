"""How well guesses of the gradient point: their cosines with backpropagation's gradient, block by block.

    python -m research.residual_cosines FOLDER [--only minilm] [--out FILE]

FOLDER has ``sst2_train.tsv.gz``, ``sst2_dev.tsv.gz`` and ``ag_news_test.tsv.gz``. LoRA of rank 16. Each guess of a
batch is compared with the exact gradient of the same examples, and with that of many others, which is what a step is
for; the exact gradient's own cosine with the others is what can be reached. MiniLM classifies SST-2, at B = noise of
0.02 and after some exact steps; SmolLM2 (Llama) predicts AG News' next token, a random GPT-NeoX random tokens.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from research.next_token import neox, smollm2
from research.residual_setting import Setting
from torch import Tensor

from spry.contrib.guided import along_guess, auxiliary
from spry.contrib.guided.estimator import unit
from spry.core.keys import Key
from spry.core.params import Params, add, dot
from spry.estimators.backprop import backprop
from spry.estimators.blocks import blocks_of
from spry.estimators.estimate import Estimator
from spry.estimators.loss import Loss
from spry.estimators.residual import residual
from spry.experiment.atomic import write_json
from spry.experiment.provenance import provenance
from spry.federated.methods.aligned import cosine
from spry.measure.operations import OperationCounter
from spry.optim.rules import adamw

Found = dict[str, Any]
OTHERS, TRAINED, NOISE = 8, 24, 0.02
AWAY = 40 * 64
"""Examples between those that training begins with and those that are measured on."""
GUESSES: dict[str, Estimator] = {
    "exact": backprop(checkpoint=True),
    "identity": residual("identity"),
    "norm": residual("norm"),
    "mlp": residual("mlp"),
}


def measure(
    losses: Sequence[Loss], others: Sequence[Loss], weights: Params, guesses: Mapping[str, Estimator]
) -> Found:
    """Average cosines over batches, for each block under the last one and for all of them (``below``)."""
    blocks = blocks_of(losses[0])
    owned: dict[str, list[str]] = {str(i): names for i, names in blocks.below_last(weights).items()}
    far = _mean([backprop(checkpoint=True)(loss, weights, Key(0)).gradient for loss in others])
    found = {
        name: [guess(loss, weights, Key(0)).gradient for loss in losses] for name, guess in guesses.items()
    }
    for name in guesses:
        pairs = zip(found[name], found["exact"], strict=True)
        found[f"{name}, length a block"] = [_lengthened(guess, exact, owned) for guess, exact in pairs]
    owned["below"] = [name for names in owned.values() for name in names]
    rows: dict[str, dict[str, Any]] = {}
    for name, gradients in found.items():
        near = {
            place: [
                cosine(_part(g, names), exact) for g, exact in zip(gradients, found["exact"], strict=True)
            ]
            for place, names in owned.items()
        }
        rows[name] = {
            "same": {place: fmean(values) for place, values in near.items()},
            "same_least": {place: min(values) for place, values in near.items()},
            "other": {
                place: fmean(cosine(_part(g, names), far) for g in gradients)
                for place, names in owned.items()
            },
        }
        same = {place: round(value, 3) for place, value in rows[name]["same"].items()}
        print(name, same, round(rows[name]["other"]["below"], 3), flush=True)
    return rows


def _lengthened(guess: Params, exact: Params, owned: Mapping[str, Sequence[str]]) -> Params:
    """What a slope a block makes of a guess: with the exact gradient at hand, it is an inner product."""
    found: dict[str, Tensor] = {}
    for names in owned.values():
        direction = unit(_part(guess, names))
        slope = dot(direction, exact)
        found |= {name: slope * v for name, v in direction.items()}
    return found


def _part(gradient: Params, names: Sequence[str]) -> Params:
    return {name: gradient[name] for name in names}


def _mean(gradients: Sequence[Params]) -> Params:
    total = gradients[0]
    for gradient in gradients[1:]:
        total = add(total, gradient)
    return total


def operations(loss: Loss, weights: Params, guesses: Mapping[str, Estimator]) -> dict[str, float]:
    """Count each guess's operations, alone and with a slope as a whole or a block, as multiples of an inference."""
    asked = {
        **guesses,
        "identity, length": along_guess(GUESSES["identity"]),
        "identity, length a block": along_guess(GUESSES["identity"], "block"),
        "last block": residual(blocks_per_step=0),
    }
    with OperationCounter() as inference, torch.no_grad():
        loss(weights)
    found: dict[str, float] = {}
    for name, guess in asked.items():
        with OperationCounter() as counter:
            guess(loss, weights, Key(0))
        found[name] = counter.total / inference.total
        print(name, round(found[name], 2), "inferences", flush=True)
    return found


def noisy(weights: Params) -> Params:
    """Move LoRA's B away from zero, where half of all gradients vanish."""
    moved = {n: Key(9).normal(n, tuple(w.shape)) for n, w in weights.items() if "lora_B" in n}
    return {n: w + NOISE * moved[n] if n in moved else w for n, w in weights.items()}


def minilm(folder: Path) -> Iterator[tuple[str, Found]]:
    """Measure on single texts."""
    setting = Setting(folder, 0)
    guesses = {**GUESSES, "auxiliary heads": auxiliary(setting.local_heads())}
    (batch,) = setting.batches(32, 1, AWAY)
    yield "operations", operations(setting.task.loss(batch, Key(0)), noisy(setting.weights), guesses)
    for when, found in before_and_after(setting, guesses, TRAINED):
        yield f"MiniLM, {when}", found


def before_and_after(
    setting: Setting, guesses: Mapping[str, Estimator], steps: int, batches: int = 4, away: int = AWAY
) -> Iterator[tuple[str, Found]]:
    """Measure at the start, and after so many exact steps."""
    task, weights = setting.task, setting.weights
    losses = [task.loss(batch, Key(0)) for batch in setting.batches(32, batches + OTHERS, away)]
    yield "start", measure(losses[:batches], losses[batches:], noisy(weights), guesses)
    head = {name for unit in task.units if unit.group == "head" for name in unit.names}
    optimizer = adamw(1e-3)
    state = optimizer.init(weights)
    for batch in setting.batches(32, steps):
        gradient = backprop()(task.loss(batch, Key(0)), weights, Key(0)).gradient
        gradient = {n: g for n, g in gradient.items() if n not in head}
        updates, state = optimizer.update(gradient, state, weights)
        weights = add(weights, updates)
    yield "trained", measure(losses[:batches], losses[batches:], weights, guesses)


def decoders(folder: Path, which: str) -> Iterator[tuple[str, Found]]:
    """Measure the next-token loss."""
    count, batches = (6, 2) if which == "smollm2" else (OTHERS + 6, 6)
    losses, weights = smollm2(folder, count) if which == "smollm2" else neox(count)
    title = {"smollm2": "SmolLM2", "neox": "GPT-NeoX, random"}[which]
    yield title, measure(losses[:batches], losses[batches:], noisy(weights), GUESSES)


def main() -> None:
    """Measure what is asked for, and keep what was measured before."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="minilm,smollm2,neox")
    parser.add_argument("--out", type=Path, default=Path("research/results/residual_cosines.json"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = json.loads(asked.out.read_text(encoding="utf-8")) if asked.out.exists() else {"models": {}}
    for which in asked.only.split(","):
        rows = minilm(asked.folder) if which == "minilm" else decoders(asked.folder, which)
        for title, measured in rows:
            print(title, flush=True)
            if title == "operations":
                found[title] = measured
            else:
                found["models"][title] = measured
            write_json(asked.out, {**found, "provenance": provenance()})


if __name__ == "__main__":
    main()
