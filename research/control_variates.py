"""Do past aggregates foresee the next gradient well enough to take noise away? MiniLM on SST-2, a few rounds.

    python research/control_variates.py --data sst2_train.tsv.gz

``spry_per_iteration`` without a split: four clients of 8 examples a round, K = 8 rademacher directions each, an exact
head, Adam on the server. Slopes are taken from autograd's gradient, ``<g, v>``, which is what forward mode measures, so
the true gradient of each round is known too. Measured are the error of the aggregates, ``|g_hat - g|^2 / |g|^2``, and
how well their running mean (of decay 0.9) foresees the next gradient. A hint that is asked about (``guided``) pays if
its squared cosine is more than the 1/K that asking costs. Writes research/results/control_variates.json; five minutes
on one core.

Runs at commit 2e7a0ee (with its ``benchmarks`` in the place of ``research``), whose features it measures.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any
from unittest.mock import patch

import torch
from spry.estimators.aligned import cosine
from spry.forward.loss import Loss

from spry.contrib.lora_xs import LoraXs
from spry.core.keys import Key
from spry.core.params import Params, dot, tree_map
from spry.data import datasets
from spry.data.encoded import Encoded
from spry.estimators.backprop import backprop
from spry.estimators.directions import rademacher
from spry.estimators.slopes import Measured
from spry.experiment.atomic import write_json
from spry.experiment.provenance import provenance
from spry.federated import settings as chosen
from spry.federated.methods import method
from spry.federated.split import everything
from spry.models.adapters.lora import Lora
from spry.optim.rules import adam
from spry.tasks.classification import ClassificationTask
from spry.wire.messages import Answer

CLIENTS, BATCH, COUNT, BETA = 4, 8, 8, 0.9
KINDS = {"lora r=1": Lora(), "lora_xs r=4": LoraXs(rank=4, alpha=4.0)}
CONTROLS = {
    "none": (None, 0.0),
    "previous": ("previous", 0.0),
    "previous, 0.9": ("previous", BETA),
    "guided": ("guided", BETA),
}


class Known:
    """Slopes from autograd's gradient, which it keeps."""

    def __init__(self) -> None:
        self.gradients: list[Params] = []

    def __call__(self, loss: Loss, params: Params, directions: Sequence[Params], exact: Params) -> Measured:
        """Measure."""
        found = backprop()(loss, {**params, **exact}, Key(0))
        self.gradients.append({name: found.gradient[name] for name in params})
        slopes = torch.tensor([dot(v, found.gradient) for v in directions], dtype=torch.float64)
        return Measured(found.value, slopes, {name: found.gradient[name] for name in exact})


def trained(
    task: ClassificationTask, data: Encoded, control: Any, decay: float, rounds: int, lr: float
) -> dict[str, Any]:
    """Train for some rounds, comparing aggregates and their running mean with the true gradient."""
    known, losses, errors, squares = Known(), [], [], []
    with patch.object(chosen, "forward_mode", known):
        made = method("spry_per_iteration", task.units, chosen.Settings(
            server=adam(lr), split=everything, directions=rademacher, count=COUNT, control=control, decay=decay,
        ))  # fmt: skip
    state = made.init(task.init())
    for round in range(rounds):
        places = Key(7).fold("round", round).permutation(len(data))
        orders = made.plan(state, list(range(CLIENTS)), Key(0))
        answers = []
        for client, order in orders.items():
            batch = data.batch(places[client * BATCH : (client + 1) * BATCH])
            answers.append(Answer(order, made.train(task.loss, order, [batch], BATCH).reply))
        true = tree_map(lambda *g: torch.stack(g).mean(0), *known.gradients)
        known.gradients.clear()
        before, state = state.optimizer["m"], made.absorb(state, answers)
        if round:
            squares.append(cosine(true, before) ** 2)
        off = {n: (state.optimizer["m"][n] - BETA * before[n]) / (1 - BETA) - g for n, g in true.items()}
        errors.append(dot(off, off) / dot(true, true))
        losses.append(mean(answer.reply.loss for answer in answers))
    return {
        "loss": losses,
        "loss_of_last_10": mean(losses[-10:]),
        "error": mean(errors[5:]),
        "squared_cosine": mean(squares[5:]),
    }


def main() -> None:
    """Train every kind with every control variate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--out", type=Path, default=Path("research/results/control_variates.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    splits = datasets.load_splits(args.data, text=["sentence"], label="label", test_fraction=0.01)
    rows, begun = [], time.time()
    for kind, peft in KINDS.items():
        task = ClassificationTask("minilm", labels=2, key=Key(0), method=peft)
        data = task.encode(splits.train, max_length=32)
        for name, (control, decay) in CONTROLS.items():
            row = {"kind": kind, "control": name, **trained(task, data, control, decay, args.rounds, args.lr)}
            rows.append(row)
            print(f"[{time.time() - begun:4.0f} s] {kind:12} {name:14} loss {row['loss_of_last_10']:.3f}  "
                  f"error {row['error']:.1f}  squared cosine {row['squared_cosine']:.4f}", flush=True)  # fmt: skip
    write_json(
        args.out,
        {
            "provenance": provenance(),
            "rounds": args.rounds,
            "lr": args.lr,
            "K": COUNT,
            "M": CLIENTS,
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
