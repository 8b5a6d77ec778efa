"""MiniLM with LoRA of rank 16 below a head in closed form, for what is measured of the residual guess."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from spry.contrib.guided import LocalHeads, fit_heads
from spry.core.keys import Key
from spry.core.params import Params
from spry.data.dataset import Dataset
from spry.data.datasets import Splits, load_splits
from spry.data.encoded import Batch
from spry.federated.closed_head.solve import solve
from spry.federated.closed_head.sums import HeadSums
from spry.models.adapters import Lora
from spry.tasks.classification import ClassificationTask

LENGTH, FITTED, KEPT, RANK = 32, 1000, 8000, 16
POOL = 8
"""Batches whose examples are sorted by length together."""


class Setting:
    """The task, its data, and weights whose head is fitted to examples that training does not see.

    Args:
        folder: Where ``sst2_train.tsv.gz`` and ``sst2_dev.tsv.gz`` lie, if ``splits`` is None.
        seed: Of the adapters, and of the order of examples.
        splits: Other data.
        length: The most tokens of a training example.
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        dtype: torch.dtype = torch.float32,
        *,
        splits: Splits | None = None,
        length: int = LENGTH,
    ) -> None:
        splits = splits or _sst2(folder)
        data = splits.train
        self.classes = len(data.label_names)
        self.key = Key(seed).fold("residual")
        self.order = self.key.permutation(len(data.texts), "order")
        self.task = ClassificationTask(
            "minilm",
            labels=data.label_names,
            key=self.key,
            adapter=Lora(rank=RANK),
            exact="auto",
            dtype=dtype,
        )
        self.train = self.task.encode(data.select(self.order[:KEPT]), max_length=length)
        self.dev = self.task.encode(splits.test or _none(), max_length=64)
        self.weights: Params = self.task.init()
        self._fit_head()

    def batches(self, size: int, count: int, start: int = 0) -> list[Batch]:
        """Examples that no head was fitted to, of like length in a batch, in an order of the seed."""
        pool, found = POOL * size, list[Batch]()
        for first in range(FITTED + start, FITTED + start + count * size, pool):
            places = sorted(range(first, first + pool), key=lambda i: self.train.lengths[i])
            mixed = self.key.permutation(POOL, f"pool {first}")
            found += [self.train.batch(places[at * size : (at + 1) * size]) for at in mixed]
        return found[:count]

    def fitted(self) -> Iterator[Batch]:
        places = sorted(range(FITTED), key=lambda i: self.train.lengths[i])
        for first in range(0, FITTED, 100):
            yield self.train.batch(places[first : first + 100])

    def local_heads(self) -> LocalHeads:
        """A head for every block, fitted to the same examples as the classifier's own."""
        losses = (self.task.loss(batch, Key(0)) for batch in self.fitted())
        return fit_heads(losses, self.weights, classes=self.classes)

    @torch.inference_mode()
    def evaluate(self, weights: Params) -> tuple[float, float]:
        """Accuracy and mean loss on the development part."""
        right, loss, count = 0, 0.0, len(self.dev.labels)
        by_length = sorted(range(count), key=lambda i: self.dev.lengths[i])
        for first in range(0, count, 109):
            batch = self.dev.batch(by_length[first : first + 109])
            logits = self.task.logits(weights, batch)
            right += int((logits.argmax(1) == batch["labels"]).sum())
            loss += float(torch.nn.functional.cross_entropy(logits, batch["labels"], reduction="sum"))
        return right / count, loss / count

    def _fit_head(self) -> None:
        weight = next(n for n in self.weights if n.endswith("classifier.modules_to_save.default.weight"))
        bias = weight.removesuffix("weight") + "bias"
        last = self.task.module.get_submodule(weight.removesuffix(".weight"))
        sums = HeadSums.empty(self.classes, self.weights[weight].shape[1])
        seen: list[torch.Tensor] = []
        handle = last.register_forward_hook(lambda _, given, output: seen.append(given[0]))
        with torch.inference_mode():
            for batch in self.fitted():
                self.task.logits(self.weights, batch)
                sums = sums.add(HeadSums.of(seen.pop(), batch["labels"], self.classes))
        handle.remove()
        head = solve(sums)
        self.weights = {**self.weights, weight: head.weight.float(), bias: head.bias.float()}


def _sst2(folder: Path) -> Splits:
    train, test = (str(folder / f"sst2_{part}.tsv.gz") for part in ("train", "dev"))
    return load_splits(train, text=("sentence",), label="label", test=test)


def _none() -> Dataset:
    raise AssertionError("the development part is given")
