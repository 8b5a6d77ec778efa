"""What guesses of the gradient lack on pairs of texts: their cosines with the exact one, with more of attention kept.

    python -m research.pairs FOLDER [--out FILE]

FOLDER has ``snli_dev.tsv.gz``, ``mnli_dev_matched.tsv.gz`` and ``snli_test.tsv.gz``. MiniLM, LoRA of rank 16, a head in
closed form; four batches of 32 pairs of at most 40 tokens, against the exact gradient of the same pairs and that of 256
others. ``values`` carries the guess through the values of attention as well, with its weights taken for constants.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from benchmarks.convergence_data import SETS, files
from research.residual_cosines import GUESSES, OTHERS, measure, noisy
from torch import Tensor, nn

from spry.core.keys import Key
from spry.core.params import Params, add
from spry.data.datasets import load_splits
from spry.data.encoded import Batch
from spry.estimators import carry, residual
from spry.estimators.backprop import backprop
from spry.experiment.atomic import write_json
from spry.experiment.provenance import provenance
from spry.federated.closed_head.solve import solve
from spry.federated.closed_head.sums import HeadSums
from spry.forward.recall import Recall
from spry.models.adapters import Lora
from spry.optim.rules import adamw
from spry.tasks.classification import ClassificationTask

BATCHES, SIZE, FITTED, STEPS, POOL = 4, 32, 1000, 96, 8
PAIRS = FITTED + (BATCHES + OTHERS + STEPS + 2 * POOL) * SIZE


class _CutAtScores(carry._CutAtAttention):
    """Cuts autograd's graph at queries and keys alone."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        self.called = True
        query, key, *rest = args
        return func(self._cut(query), self._cut(key), *rest, **(kwargs or {}))


def values(
    recall: Recall, maps: Sequence[nn.Module], leaves: Params, d: Tensor, on: bool
) -> tuple[Params, Tensor]:
    """Carry the guess as ``mlp`` does, and through the values of attention."""
    cut, carry._CutAtAttention = carry._CutAtAttention, _CutAtScores
    try:
        return carry.mlp(recall, maps, leaves, d, on)
    finally:
        carry._CutAtAttention = cut


class Pairs:
    """The task, its pairs, and weights whose head is fitted to the first of them."""

    def __init__(self, folder: Path) -> None:
        with TemporaryDirectory() as out:
            found = files("nli", folder, Path(out))
            text = tuple(SETS["nli"].settings["data.text"])
            data = load_splits(found["data.name"], text=text, label="label", test=found["data.test"]).train
        self.key = Key(0).fold("pairs")
        order = self.key.permutation(len(data.texts), "order")
        self.task = ClassificationTask(
            "minilm", labels=data.label_names, key=self.key, adapter=Lora(rank=16), exact="auto"
        )
        self.pairs = self.task.encode(data.select(order[:PAIRS]), max_length=40)
        self.weights: Params = self.task.init()
        self.classes = len(data.label_names)
        self._fit_head()

    def batches(self, size: int, count: int, start: int) -> Iterator[Batch]:
        """Pairs of like length in a batch."""
        for first in range(start, start + count * size, POOL * size):
            places = sorted(range(first, first + POOL * size), key=lambda i: self.pairs.lengths[i])
            for at in self.key.permutation(POOL, f"pool {first}"):
                yield self.pairs.batch(places[at * size : (at + 1) * size])

    def _fit_head(self) -> None:
        weight = next(n for n in self.weights if n.endswith("classifier.modules_to_save.default.weight"))
        self.head = {weight, weight.removesuffix("weight") + "bias"}
        sums = HeadSums.empty(self.classes, self.weights[weight].shape[1])
        for first in range(0, FITTED, 100):
            batch = self.pairs.batch(range(first, first + 100))
            sums = sums.add(HeadSums.of(self.task.features(batch), batch["labels"], self.classes))
        solved = solve(sums)
        bias = weight.removesuffix("weight") + "bias"
        self.weights = {**self.weights, weight: solved.weight.float(), bias: solved.bias.float()}


def main() -> None:
    """Measure before training and after some exact steps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("research/results/pairs.json"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    residual.CARRIES = {**carry.CARRIES, "values": values}  # pyright: ignore[reportAttributeAccessIssue]
    guesses = {**GUESSES, "values": residual.residual("values")}  # pyright: ignore[reportArgumentType]
    pairs = Pairs(asked.folder)
    task, weights = pairs.task, pairs.weights
    losses = [task.loss(batch, Key(0)) for batch in pairs.batches(SIZE, BATCHES + OTHERS, FITTED)]
    found = {"start": measure(losses[:BATCHES], losses[BATCHES:], noisy(weights), guesses)}
    optimizer = adamw(1e-3)
    state = optimizer.init(weights)
    for batch in pairs.batches(SIZE, STEPS, FITTED + (BATCHES + OTHERS + POOL) * SIZE):
        gradient = backprop()(task.loss(batch, Key(0)), weights, Key(0)).gradient
        gradient = {name: value for name, value in gradient.items() if name not in pairs.head}
        updates, state = optimizer.update(gradient, state, weights)
        weights = add(weights, updates)
    found["trained"] = measure(losses[:BATCHES], losses[BATCHES:], weights, guesses)
    write_json(asked.out, {"models": found, "steps": STEPS, "provenance": provenance()})


if __name__ == "__main__":
    main()
