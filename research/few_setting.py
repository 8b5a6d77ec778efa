"""The federation of the comparison, as Spry itself deals, samples and shuffles it, with the head in closed form."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from few_problem import Model
from torch import Tensor

from spry.core.keys import Key
from spry.data.batches import TrainingBatches
from spry.data.encoded import Encoded
from spry.experiment.build import Experiment, build
from spry.experiment.config import Config
from spry.experiment.head import start_head
from spry.runtime.sampling import sample

CLIENTS, ASKED, BATCH, STEPS = 100, 10, 8, 4
HEAD_CLIENTS = 12
"""How many clients' sums give the head of the seeds that confirm; of seed 0, by which is chosen, all."""
HELD = 800
"""Examples that clients held out, by which step sizes are chosen."""


@dataclass
class Setting:
    """Data, clients and model of one seed.

    Args:
        data: The folder of the data sets.
        cache: A folder for heads and unpacked data.
    """

    data: Path
    cache: Path
    seed: int
    alpha: float = 1.0
    start: list[float] | None = None

    @cached_property
    def experiment(self) -> Experiment:
        return build(settings(self.data, self.cache, self.seed, self.alpha))

    @cached_property
    def model(self) -> Model:
        task = self.experiment.task
        bert = task.backbone.model.bert
        return Model(bert, self.head, bert.config.num_attention_heads, bert.config.layer_norm_eps)

    @cached_property
    def head(self) -> tuple[Tensor, Tensor]:
        """The last map's weight and bias; kept, since it takes a pass through all examples."""
        kept = self.cache / f"head-{self.alpha:g}-{self.seed}.pt"
        if not kept.is_file():
            start = start_head(settings(self.data, self.cache, self.seed, self.alpha), self.experiment, {})
            assert start is not None
            torch.save(dict(start.weights), kept)
        named = torch.load(kept)
        weight, bias = (next(v for n, v in named.items() if n.endswith(end)) for end in ("weight", "bias"))
        return weight, bias

    def round(self, number: int) -> list[tuple[int, int, list[list[int]]]]:
        """The clients of a round: number, examples, and the places of each batch."""
        key, clients = self.experiment.key, self.experiment.clients
        found = []
        for client in sample(clients.trainable(), ASKED, number, key):
            batches = clients.batches(client, number, key)
            found.append((client, clients.examples(client), [list(map(int, b)) for b in places_of(batches)]))
        return found

    @cached_property
    def encoded(self) -> Encoded:
        return self.experiment.clients.clients[0].data

    def tokens(self, places: Sequence[int]) -> list[list[int]]:
        return [self._one(self.encoded, place) for place in places]

    @staticmethod
    def _one(encoded: Encoded, place: int) -> list[int]:
        batch = encoded.batch([place])
        return batch["input_ids"][0][batch["attention_mask"][0].bool()].tolist()

    def states(self, places: Sequence[int], block: int) -> list[Tensor]:
        known = self.model.known
        tokens = [() if (place, block) in known else self.tokens([place])[0] for place in places]
        return self.model.states(tokens, places, block)

    def labels(self, places: Sequence[int]) -> Tensor:
        return self.encoded.labels[list(places)].long()

    @cached_property
    def held(self) -> list[int]:
        """Some of what clients hold out."""
        own = [int(place) for client in self.experiment.clients.clients for place in client.held_out]
        order = Key(7).permutation(len(own), "held")
        return [own[i] for i in order[:HELD]]

    @cached_property
    def test(self) -> tuple[list[list[int]], Tensor]:
        tokens, labels = [], []
        for batch in self.experiment.clients.test:
            for ids, mask, label in zip(
                batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True
            ):
                tokens.append(ids[mask.bool()].tolist())
                labels.append(int(label))
        return tokens, torch.tensor(labels)

    def test_states(self, block: int) -> list[Tensor]:
        tokens = self.test[0]
        return self.model.states(tokens, [-1 - i for i in range(len(tokens))], block)


def places_of(batches: TrainingBatches) -> list[Any]:
    """The places of the examples in each batch, in the place of their tokens."""
    told: Any = _Told()
    return list(replace(batches, data=told))


class _Told:
    def batch(self, places: Any) -> Any:
        return places


def settings(data: Path, cache: Path, seed: int, alpha: float) -> Config:
    """The settings of the comparison on SST-2."""
    paths = {}
    for name, part in (("data.name", "sst2_train"), ("data.test", "sst2_dev")):
        paths[name] = str(unpacked(data / f"{part}.tsv.gz", cache))
    return Config().with_settings({
        **paths,
        "seed": seed,
        "data.alpha": alpha,
        "data.text": ["sentence"],
        "data.label": "label",
        "data.partition": "dirichlet",
        "data.clients": CLIENTS,
        "model.max_length": 32,
        "head.start": "closed-form",
        "client.batch_size": BATCH,
        "client.steps": STEPS,
        "schedule.clients_per_round": ASKED,
    })


def unpacked(packed: Path, folder: Path) -> Path:
    """A gzipped file as it was, in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / packed.name.removesuffix(".gz")
    if not out.is_file():
        out.write_bytes(gzip.decompress(packed.read_bytes()))
    return out
