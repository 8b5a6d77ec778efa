"""What MiniLM's head reads of SST-2, dealt to 1,000 clients: the frozen part of a private run, computed once.

A frozen backbone gives an example the same features in every round, so that rounds on them are rounds of the whole
model with its last map alone to train.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from benchmarks.convergence_data import files
from torch import Tensor

from spry.core.keys import Key
from spry.data.batches import EvaluationBatches
from spry.data.client_data import LabelledText
from spry.data.datasets import load_splits
from spry.tasks.classification import ClassificationTask

CLIENTS, EACH, PUBLIC = 1000, 8, 512


@dataclass(frozen=True)
class Rows:
    """Features of norm 1, shape (N, D), and classes, shape (N,)."""

    x: Tensor
    y: Tensor

    def chosen(self, places: Sequence[int]) -> Rows:
        """Keep the rows at some places."""
        return Rows(self.x[list(places)], self.y[list(places)])


def read_arguments(description: str | None, out: Path) -> argparse.Namespace:
    """Read where texts, features and results are, and which seeds are asked for."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the files of SST-2 are")
    parser.add_argument("features", type=Path, help="where the features are kept")
    parser.add_argument("--seeds", type=numbers, default="0,1,2")
    parser.add_argument("--out", type=Path, default=out)
    return parser.parse_args()


def numbers(text: str) -> list[int]:
    """Read numbers between commas."""
    return [int(part) for part in text.split(",")]


def read_features(folder: Path, cache: Path) -> tuple[Rows, Rows]:
    """Read, or compute and keep, the features of 8,000 training texts, drawn at random, and of the dev part.

    They are centred and scaled by those of public texts, so that what all texts share is not learnt anew.
    """
    if not cache.is_file():
        with TemporaryDirectory() as scratch:
            found = files("sst2", folder, Path(scratch))
            splits = load_splits(found["data.name"], text="sentence", test=found["data.test"])
        kept = sorted(Key(0).permutation(len(splits.train), "privacy")[: CLIENTS * EACH])
        data = LabelledText(splits=replace(splits, train=splits.train.select(kept)))
        task = ClassificationTask("minilm", labels=splits.train.label_names)
        clients = data.partition(clients=1, alpha=None, key=Key(0), held_out=0.0).encode(task)
        train = EvaluationBatches(data=clients.clients[0].data)
        torch.save([_features(task, part) for part in (train, clients.test)], cache)
    train, test = (Rows(x, y) for x, y in torch.load(cache))
    mean, deviation = _public(folder, cache.with_suffix(".public.pt"))
    train, test = (Rows(F.normalize((rows.x - mean) / deviation), rows.y) for rows in (train, test))
    return train, test


def _public(folder: Path, cache: Path) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the features of other texts, premises of SNLI, which are nobody's here."""
    if not cache.is_file():
        with TemporaryDirectory() as scratch:
            found = files("nli", folder, Path(scratch))
            splits = load_splits(found["data.test"], text="premise", test_fraction=None)
        task = ClassificationTask("minilm", labels=splits.train.label_names)
        kept = sorted(Key(0).permutation(len(splits.train), "public")[:PUBLIC])
        data = LabelledText(splits=replace(splits, train=splits.train.select(kept)))
        clients = data.partition(clients=1, alpha=None, key=Key(0), held_out=0.0).encode(task)
        x, _ = _features(task, EvaluationBatches(data=clients.clients[0].data))
        torch.save((x.mean(0), x.std(0)), cache)
    mean, deviation = torch.load(cache)
    return mean, deviation


def _features(task: ClassificationTask, batches: Iterable[dict[str, Tensor]]) -> tuple[Tensor, Tensor]:
    with torch.inference_mode():
        found = [(task.features(batch), batch["labels"]) for batch in batches]
    return F.normalize(torch.cat([x for x, _ in found])).clone(), torch.cat([y for _, y in found])


if __name__ == "__main__":
    import sys

    print([tuple(part.x.shape) for part in read_features(Path(sys.argv[1]), Path(sys.argv[2]))])
