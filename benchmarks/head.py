"""The head in closed form beside other fits to the same pooled features: accuracy, loss, bytes.

Each data set is dealt to 100 clients (Dirichlet 1.0), and MiniLM reads its features. ``closed form`` is what Spry's
clients and server make of it, through the codec; ``random`` the same on 64 random combinations of the features; the
others have all features in one place: multinomial logistic regression (torch's L-BFGS), whose decay has the least loss
on a fifth that is left out, and a closed form whose covariance is shrunk by what suits it alone (OAS, arXiv 0907.4698).
Fits to few clients have as many, chosen at random, seed by seed. Rows are merged into the file.

    python benchmarks/head.py DATA_FOLDER [--sets sst2,tweets,ag_news] [--examples 8000] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from benchmarks.convergence_data import files
from torch import Tensor

from spry.core.keys import Key
from spry.data.client_data import LabelledText
from spry.data.datasets import load_splits
from spry.data.federation import Federation
from spry.experiment.atomic import write_json
from spry.experiment.provenance import provenance
from spry.federated.closed_head.solve import solve
from spry.federated.closed_head.sums import HeadSums
from spry.runtime.head_start import closed_form_head
from spry.tasks.classification import ClassificationTask
from spry.tasks.linear_head import LinearHead

RESULTS = Path("benchmarks/results/head.json")
TEXT: Mapping[str, tuple[str, ...]] = {"sst2": ("sentence",), "nli": ("premise", "hypothesis")}
CLIENTS, RANDOM, TEST = 100, 64, 1000
FEW, SEEDS = (10, 30), (0, 1, 2)
DECAYS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
KEY = Key(0)
Fit = tuple[Tensor, Tensor]


def main() -> None:
    """Measure what was asked for and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the files of SST-2 and AG News are")
    parser.add_argument("--sets", default="sst2,tweets")
    parser.add_argument("--examples", type=int, default=8000, help="most training examples of a data set")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    measured: dict[str, Any] = json.loads(asked.out.read_text())["sets"] if asked.out.is_file() else {}
    for name in asked.sets.split(","):
        measured[name] = measure(name, asked.folder, asked.examples)
        write_json(
            asked.out, {"provenance": provenance(), "model": "minilm", "clients": CLIENTS, "sets": measured}
        )


def measure(name: str, folder: Path, examples: int) -> dict[str, Any]:
    """Fit all heads to one data set."""
    task, clients = _set_up(name, folder, examples)
    head, seen = task.linear_head(), list[tuple[Tensor, Tensor]]()
    whole = closed_form_head(_tapped(task, head, seen), clients, key=KEY)
    train = _joined(seen)
    test = _joined([(head.read(task.init(), batch), batch["labels"]) for batch in clients.test])
    random = closed_form_head(_replayed(task, head, seen), clients, key=KEY, features=RANDOM)
    fits: dict[str, Callable[[], Fit]] = {
        "closed form": lambda: _of(head, whole.weights),
        "closed form, random features": lambda: _of(head, random.weights),
        "closed form, OAS": lambda: shrunk(*train, head.classes),
        "logistic regression": lambda: logistic(*train, head.classes),
    }
    rows = {fit: _scored(make(), train, test) for fit, make in fits.items()}
    rows["closed form"] |= {"bytes_up_per_client": whole.cost.bytes_up / whole.cost.clients}
    rows["closed form, random features"] |= {
        "bytes_up_per_client": random.cost.bytes_up / random.cost.clients
    }
    _say(name, CLIENTS, rows)
    parts = _by_client(clients, seen)
    few = {number: _few(parts, test, head.classes, number) for number in FEW}
    for number, found in few.items():
        for seed in found:
            _say(name, number, seed["fits"])
    counted = {"train_examples": len(train[0]), "test_examples": len(test[0]), "features": head.features}
    return {**counted, "classes": head.classes, "fits": rows, "few": few}


def _few(parts: list[Fit], test: Fit, classes: int, number: int) -> list[dict[str, Any]]:
    """Fit to some clients, seed by seed; a draw that lacks a class takes more of them."""
    found = list[dict[str, Any]]()
    for seed in SEEDS:
        order = Key(seed).fold("few").permutation(len(parts))
        chosen = next(
            own
            for end in range(number, len(parts) + 1)
            if len((own := _joined([parts[place] for place in order[:end]]))[1].unique()) == classes
        )
        fits = {
            "closed form": solve(HeadSums.of(*chosen, classes)),
            "closed form, OAS": shrunk(*chosen, classes),
            "logistic regression": logistic(*chosen, classes),
        }
        rows = {fit: _scored(made, chosen, test) for fit, made in fits.items()}
        found.append({"seed": seed, "train_examples": len(chosen[1]), "fits": rows})
    return found


def _by_client(clients: Federation, seen: list[Fit]) -> list[Fit]:
    """Sort what was read by client."""
    batches = iter(seen)
    return [_joined([next(batches) for _ in clients.training_once(client)]) for client in clients.trainable()]


def _say(name: str, clients: int, rows: Mapping[str, Mapping[str, float]]) -> None:
    for fit, row in rows.items():
        print(
            f"{name:8} {clients:3} clients  {fit:30} {100 * row['test_accuracy']:.1f} %  {row['test_loss']:.3f}  "
            f"{row['train_loss']:.3f}  {row['weight_norm']:.0f}",
            flush=True,
        )


def _set_up(name: str, folder: Path, examples: int) -> tuple[ClassificationTask, Federation]:
    with TemporaryDirectory() as scratch:
        where = {"data.name": name, **files(name, folder, Path(scratch))}
        text = TEXT.get(name, ("text",))
        splits = load_splits(
            where["data.name"], text=text, label="label", test=where.get("data.test"), test_fraction=0.2
        )
    splits = splits.shortened(TEST)
    train = splits.train
    if len(train) > examples:
        kept = np.sort(np.asarray(KEY.fold("kept").permutation(len(train))[:examples]))
        train = train.select(kept.tolist())
    data = LabelledText(splits=replace(splits, train=train)).partition(
        clients=CLIENTS, key=KEY, held_out=0.0, batch_size=32
    )
    task = ClassificationTask("minilm", labels=data.labels, key=KEY)
    return task, data.encode(task)


class _Stand:
    """A task of which only the head is asked for."""

    def __init__(self, task: ClassificationTask, head: LinearHead) -> None:
        self.init, self.linear_head = task.init, lambda: head


def _tapped(task: ClassificationTask, head: LinearHead, seen: list[tuple[Tensor, Tensor]]) -> Any:
    """The task, which notes down the features and labels that clients read."""

    def read(params: Any, batch: Any) -> Tensor:
        seen.append((head.read(params, batch), batch["labels"]))
        return seen[-1][0]

    return _Stand(task, replace(head, read=read))


def _replayed(task: ClassificationTask, head: LinearHead, seen: list[tuple[Tensor, Tensor]]) -> Any:
    """The task, which knows what clients will read."""
    known = iter(seen)
    return _Stand(task, replace(head, read=lambda params, batch: next(known)[0]))


def _joined(pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    features, labels = zip(*pairs, strict=True)
    return torch.cat(features).double(), torch.cat(labels)


def _of(head: LinearHead, weights: Mapping[str, Tensor]) -> Fit:
    bias = torch.zeros(head.classes) if head.bias is None else weights[head.bias]
    return weights[head.weight].double(), bias.double()


def logistic(features: Tensor, labels: Tensor, classes: int) -> Fit:
    """Fit with the decay that has the least loss on a fifth of the examples, then to all of them."""
    order = torch.as_tensor(KEY.fold("fifth").permutation(len(labels)))
    kept, left = order[len(order) // 5 :], order[: len(order) // 5]

    def unlikely(decay: float) -> float:
        fit = _regressed(features[kept], labels[kept], classes, decay)
        return float(F.cross_entropy(F.linear(features[left], *fit), labels[left]))

    return _regressed(features, labels, classes, min(DECAYS, key=unlikely))


def _regressed(features: Tensor, labels: Tensor, classes: int, decay: float) -> Fit:
    """Fit multinomial logistic regression with torch's L-BFGS, on features of mean 0 and deviation 1."""
    mean, spread = features.mean(0), features.std(0).clamp(min=1e-12)
    scaled = (features - mean) / spread
    weight = torch.zeros(classes, features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    steps = torch.optim.LBFGS([weight, bias], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        steps.zero_grad()
        value = F.cross_entropy(F.linear(scaled, weight, bias), labels) + decay * weight.square().sum()
        value.backward()
        return value

    steps.step(loss)  # type: ignore[arg-type]
    found = weight.detach() / spread
    return found, bias.detach() - found @ mean


def shrunk(features: Tensor, labels: Tensor, classes: int) -> Fit:
    """Linear discriminant analysis whose covariance is shrunk to its mean diagonal as OAS has it."""
    sums = HeadSums.of(features, labels, classes)
    number, size = sums.examples, sums.features
    covariance = sums.scatter / number
    trace, squares = float(covariance.trace()), float((covariance**2).sum())
    rate = ((1 - 2 / size) * squares + trace**2) / ((number + 1 - 2 / size) * (squares - trace**2 / size))
    rate = min(1.0, rate)
    mixed = (1 - rate) * covariance + rate * trace / size * torch.eye(size).double()
    return solve(replace(sums, scatter=mixed * number), strength=0.0)


def _scored(fit: Fit, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> dict[str, float]:
    scores, labels = F.linear(test[0], *fit), test[1]
    return {
        "test_accuracy": float((scores.argmax(1) == labels).double().mean()),
        "test_loss": float(F.cross_entropy(scores, labels)),
        "train_loss": float(F.cross_entropy(F.linear(train[0], *fit), train[1])),
        "weight_norm": float((fit[0] - fit[0].mean(0)).norm()),
    }


if __name__ == "__main__":
    main()
