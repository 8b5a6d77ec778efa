"""How much of a round's gradient is signal, layer by layer: backpropagated, and along random directions.

    python research/signal_to_noise.py --train sst2_train.tsv.gz

MiniLM on real text, LoRA's A alone outside the last block, whose adapters the head holds; weights as after some steps
of Adam on exact gradients. Measured is ``|g_hat - g|^2 / |g|^2`` for a map's weights, ``g`` from backpropagation over
many examples, of what ten clients with eight examples find together: all of them about all maps, or one of them about
this map alone, as a split deals it. Writes research/results/signal_to_noise.json; some minutes on
one core.

Runs at commit 2e7a0ee (with its ``benchmarks`` in the place of ``research``), whose features it measures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from spry.estimators.activation import activation
from torch import Tensor

from spry.core.keys import Key
from spry.core.params import Params, dot, restrict, tree_map
from spry.core.units import exact_names
from spry.data import datasets
from spry.data.encoded import Encoded
from spry.estimators.backprop import backprop
from spry.estimators.directions import rademacher
from spry.estimators.estimate import Estimator
from spry.estimators.projected import Measurement, projected
from spry.estimators.slopes import forward_mode
from spry.experiment.atomic import write_json
from spry.experiment.provenance import provenance
from spry.federated.client import accumulate
from spry.models.adapters.lora import LoraA
from spry.optim.rules import adam
from spry.tasks.classification import ClassificationTask
from spry.wire.messages import Order

CLIENTS, BATCH, STEPS, RATE = 10, 8, 24, 1e-2
MANY, CHUNK = 1600, 80


class Setting:
    """A model at some point of its training, and the data it is trained on."""

    def __init__(self, train: str, text: Sequence[str], max_length: int) -> None:
        data = datasets.load_splits(train, text=list(text)).train
        names = data.label_names
        self.task = ClassificationTask("minilm", labels=names, key=Key(0), method=LoraA(head="block"))
        self.data: Encoded = self.task.encode(data, max_length=max_length)
        self.order = Key(1).permutation(len(data.labels), "order")
        self.weights: Params = self.task.init()
        self.units = [unit for unit in self.task.units if not unit.head]
        self.exact = exact_names(self.task.units)

    def mean(
        self,
        estimator: Estimator,
        first: int,
        sizes: Sequence[int],
        key: Key,
        names: Sequence[str] | None = None,
    ) -> Params:
        """Average what clients with so many examples each find about some weights, all without names."""
        at, total = first, tree_map(torch.zeros_like, restrict(self.weights, names or self.weights))
        for client, size in enumerate(sizes):
            order = Order(
                round=0, client=client, weights=self.weights, trained=tuple(total), key=key.fold("c", client)
            )
            batch = self.data.batch([self.order[i % len(self.order)] for i in range(at, at + size)])
            found = accumulate(estimator)(self.task.loss, order, [batch]).payload.values
            total, at = tree_map(lambda a, b: a + b / len(sizes), total, found), at + size
        return total

    def train(self) -> None:
        """Take some steps of Adam on backpropagated gradients."""
        optimizer = adam(RATE)
        state = optimizer.init(self.weights)
        for step in range(STEPS):
            gradient = self.mean(backprop(), step * CHUNK, [CHUNK], Key(2))
            updates, state = optimizer.update(gradient, state, self.weights)
            self.weights = tree_map(torch.add, self.weights, updates)


def errors(setting: Setting, true: Params, draws: int) -> list[dict[str, Any]]:
    """Measure each estimator's error for each map."""
    measured = Measurement(directions=rademacher, exact=setting.exact)
    forward = {
        "tied activation": activation(measured, tied=True),
        "activation": activation(measured),
        "weight": projected(forward_mode, measured),
    }
    rows, start = [], STEPS * CHUNK + MANY
    for how, estimator in {"backprop": backprop(), **forward}.items():
        together = [
            setting.mean(estimator, start + i * CHUNK, [BATCH] * CLIENTS, Key(3).fold("draw", i))
            for i in range(draws)
        ]
        for unit in setting.units:
            own = restrict(true, unit.names)
            alone = [
                setting.mean(
                    estimator,
                    start + i * BATCH,
                    [BATCH],
                    Key(4).fold("draw", i),
                    [*unit.names, *sorted(setting.exact)],
                )
                for i in range(draws)
            ]
            rows.append({
                "map": unit.name,
                "estimator": how,
                "norm": dot(own, own) ** 0.5,
                "all_clients": _error(together, own),
                "one_client": _error(alone, own),
            })
            print(rows[-1], flush=True)
    return rows


def _error(found: Sequence[Params], true: Params) -> float:
    def squared(got: Params) -> float:
        return dot(*[tree_map(torch.sub, restrict(got, true), true)] * 2)

    return sum(map(squared, found)) / len(found) / dot(true, true)


def main() -> None:
    """Train a little, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", required=True, help="a table with a column label")
    parser.add_argument("--text", default="sentence", help="its text column, or two with a comma")
    parser.add_argument("--max-length", type=int, default=32)
    parser.add_argument("--draws", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("research/results/signal_to_noise.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    setting = Setting(args.train, args.text.split(","), args.max_length)
    setting.train()
    true: dict[str, Tensor] = dict(setting.mean(backprop(), STEPS * CHUNK, [CHUNK] * (MANY // CHUNK), Key(2)))
    about = {
        "steps": STEPS, "clients": CLIENTS, "batch_size": BATCH, "examples_of_true": MANY, "draws": args.draws,
        "max_length": args.max_length,
    }  # fmt: skip
    write_json(
        args.out, {"provenance": provenance(), "setting": about, "rows": errors(setting, true, args.draws)}
    )


if __name__ == "__main__":
    main()
