"""Accuracy against epsilon on SST-2 with 1,000 clients: DP-FedAvg, slopes alone in few dimensions, noised sums.

MiniLM is frozen and its head's last map is trained, so that its features are computed once (``privacy_features.py``).
Rounds are Spry's own: ``simulate`` with ``CentralNoise`` on sums, each client asked by itself. Each of 1,000 clients
has 8 of 8,000 training texts; whole clients are hidden. The server's step size is chosen for each method at
epsilon 3 on a seed of its own, on the dev part that is reported, and that choice is not private.

    python -m benchmarks.privacy DATA_FOLDER FEATURES_FILE [--seeds 0,1,2] [--out FILE]

Runs that are in the file are not made again; features are kept in FEATURES_FILE.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from benchmarks.privacy_features import CLIENTS, EACH, Rows, read_arguments, read_features
from benchmarks.results_file import read
from torch import Tensor

from spry.core.keys import Key
from spry.core.params import Params
from spry.core.units import Unit
from spry.experiment.atomic import write_json
from spry.experiment.provenance import provenance
from spry.federated.methods import METHODS
from spry.federated.privacy.accounting import Spending, calibrated, spent
from spry.federated.privacy.bounds import Bounds
from spry.federated.privacy.gaussian import CentralNoise
from spry.federated.privacy.head_sums import HeadNoise, RawSums
from spry.federated.summing import Enrolment, Summing
from spry.optim.rules import sgd
from spry.runtime.rounds import simulate
from spry.runtime.sampling import sample_each
from spry.tasks.score import Score

RESULTS = Path("benchmarks/results/privacy.json")
EPSILONS: tuple[float, ...] = (1.0, 3.0, 8.0, math.inf)
DELTA, ASKED, ROUNDS, STEPS, CLIP = 1e-5, 100, 12, 2, 1.0
DIMENSIONS, DIRECTIONS = 32, 16
TUNING_SEED, TUNING_EPSILON, STEP_SIZES = 9, 3.0, (0.3, 1.0, 3.0, 10.0)
METHOD_NAMES = {
    "fedavg": "DP-FedAvg",
    "spry_per_iteration": "slopes alone",
    "closed form": "closed form",
}


@dataclass(frozen=True)
class RowsLoss:
    """The cross-entropy of a linear map of features."""

    rows: Rows

    def __call__(self, params: Params, *, checkpoint: bool = False) -> Tensor:
        """Evaluate the mean loss."""
        return self.examples(params).mean()

    def examples(self, params: Params, *, checkpoint: bool = False) -> Tensor:
        """Evaluate the rows' own losses, shape (B,)."""
        return F.cross_entropy(
            F.linear(self.rows.x, params["weight"], params["bias"]), self.rows.y, reduction="none"
        )

    def microbatches(self) -> Sequence[tuple[float, RowsLoss]]:
        """Stay whole."""
        return [(1.0, self)]


@dataclass(frozen=True)
class Hits:
    """How many of some examples are told right."""

    examples: int
    right: int
    total: float

    @property
    def loss(self) -> float:
        """The mean loss."""
        return self.total / self.examples

    def values(self) -> dict[str, float]:
        """Name the score."""
        return {"accuracy": self.right / self.examples}

    def __add__(self, other: Hits) -> Hits:
        return Hits(self.examples + other.examples, self.right + other.right, self.total + other.total)


@dataclass(frozen=True)
class MapTask:
    """A linear map of features to learn."""

    features: int
    score: ClassVar[Score] = Score(name="accuracy", higher_is_better=True)

    @property
    def units(self) -> tuple[Unit, ...]:
        """All weights are one unit."""
        return (Unit(name="map", names=("weight", "bias"), size=2 * self.features + 2),)

    def init(self) -> dict[str, Tensor]:
        """Begin at zero."""
        return {"weight": torch.zeros(2, self.features), "bias": torch.zeros(2)}

    def loss(self, batch: Mapping[str, Tensor], key: Key, base: Params) -> RowsLoss:
        """Bind the loss to a batch."""
        return RowsLoss(Rows(batch["x"], batch["y"]))

    def evaluate(self, weights: Params, batches: Sequence[Rows]) -> Hits:
        """Evaluate on batches."""
        found = [(rows, F.linear(rows.x, weights["weight"], weights["bias"])) for rows in batches]
        right = sum(int((logits.argmax(1) == rows.y).sum()) for rows, logits in found)
        total = sum(float(F.cross_entropy(logits, rows.y, reduction="sum")) for rows, logits in found)
        return Hits(sum(len(rows.y) for rows, _ in found), right, total)


@dataclass(frozen=True)
class Dealt:
    """Features dealt to clients, 8 rows each."""

    train: Rows
    test: Sequence[Rows]
    order: Sequence[int]
    steps: int
    validation: Sequence[Rows] = field(default=())

    def trainable(self) -> list[int]:
        """All clients have examples."""
        return list(range(CLIENTS))

    def examples(self, client: int) -> int:
        """Every client has as many."""
        return EACH

    def rows(self, client: int) -> Rows:
        """What a client has."""
        return self.train.chosen(self.order[EACH * client : EACH * (client + 1)])

    def batches(self, client: int, round: int, key: Key) -> list[dict[str, Tensor]]:
        """All of a client's rows, once a step."""
        return [vars(self.rows(client))] * self.steps

    def held_out(self, client: int) -> list[Rows]:
        """Nothing is held out by clients."""
        return []


def rounds_of(method: str, epsilon: float, lr: float, seed: int, train: Rows, test: Rows) -> dict[str, Any]:
    """Run a method's rounds within a budget."""
    key, slopes = Key(seed), method == "spry_per_iteration"
    if slopes:
        train, test = in_few_dimensions(key, train, test)
    rate = ASKED / CLIENTS
    noise = 0.0 if math.isinf(epsilon) else calibrated(lambda z: spent(z, rate, ROUNDS, None, DELTA), epsilon)
    bounds = Bounds(slopes=CLIP) if slopes else Bounds(dense=CLIP)
    task = MapTask(train.x.shape[1])
    algorithm = METHODS[method](
        task.units,
        client=None if slopes else sgd(1.0),
        server=sgd(lr),
        max_steps=1 if slopes else STEPS,
        transforms=[CentralNoise(bounds=bounds, noise=noise, key=key.fold("privacy"))],
        summing=Summing(
            key=key, enrolled=Enrolment(clients=tuple(range(CLIENTS)), rate=rate), shorten=bounds.shorten
        ),
        **({"num_directions": DIRECTIONS, "split": "everything"} if slopes else {}),
    )
    order = key.permutation(len(train.y), "deal")
    data: Any = Dealt(train, [test], order, 1 if slopes else STEPS)
    found = list(
        simulate(
            algorithm,
            task,  # type: ignore[arg-type]
            data,
            rounds=ROUNDS,
            clients_per_round=ASKED,
            key=key,
            evaluate_every=ROUNDS,
            sampler=sample_each,
            spending=Spending(delta=DELTA, noise=noise, rate=rate),
        )
    )
    return {"accuracy": found[-1].score, "spent": _finite(found[-1].epsilon), "noise": noise}


def in_few_dimensions(key: Key, train: Rows, test: Rows) -> tuple[Rows, Rows]:
    """Combine features at random into few, of norm 1."""
    mix = key.normal("mix", (train.x.shape[1], DIMENSIONS)) / DIMENSIONS**0.5
    first, second = (Rows(F.normalize(rows.x @ mix), rows.y) for rows in (train, test))
    return first, second


def sums_of(epsilon: float, seed: int, train: Rows, test: Rows) -> dict[str, Any]:
    """Solve for the map from every client's sums, taken once, within a budget."""
    key = Key(seed)
    noise = 0.0 if math.isinf(epsilon) else calibrated(lambda z: spent(0.0, 1.0, 0, z, DELTA), epsilon)
    bounded = HeadNoise(norm=1.0, examples=EACH, by_client=True, noise=noise, key=key.fold("head noise"))
    total, features = RawSums.empty(2, train.x.shape[1]), train.x.shape[1]
    for client in range(CLIENTS):
        rows = train.chosen(range(EACH * client, EACH * (client + 1)))
        total = total.add(bounded.shorten(bounded.of(rows.x, rows.y, 2)))
    solved = bounded.solve(total, True)
    weights = {"weight": solved.weight.float(), "bias": solved.bias.float()}
    hits = MapTask(features).evaluate(weights, [test])
    return {
        "accuracy": hits.values()["accuracy"],
        "spent": _finite(spent(0.0, 1.0, 0, noise, DELTA)),
        "noise": noise,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def main() -> None:
    """Run what is not in the file yet."""
    asked = read_arguments(__doc__, RESULTS)
    train, test = read_features(asked.folder, asked.features)
    runs = read(asked.out)["runs"]

    def run(method: str, epsilon: float, lr: float | None, seed: int) -> dict[str, Any]:
        place = {"method": method, "epsilon": _finite(epsilon), "lr": lr, "seed": seed}
        known = next((one for one in runs if place.items() <= one.items()), None)
        if known is None:
            found = (
                sums_of(epsilon, seed, train, test)
                if lr is None
                else rounds_of(method, epsilon, lr, seed, train, test)
            )
            known = {**place, **found}
            runs.append(known)
            write_json(asked.out, {**provenance(), **_setting(train, test), "runs": runs})
            print(known, flush=True)
        return known

    for seed in asked.seeds:
        for epsilon in EPSILONS:
            run("closed form", epsilon, None, seed)
    for method in ("fedavg", "spry_per_iteration"):
        tried = [run(method, TUNING_EPSILON, lr, TUNING_SEED) for lr in STEP_SIZES]
        best = max(tried, key=lambda one: one["accuracy"])["lr"]
        for seed in asked.seeds:
            for epsilon in EPSILONS:
                run(method, epsilon, best, seed)


def _setting(train: Rows, test: Rows) -> dict[str, Any]:
    return {
        "model": "minilm",
        "clients": CLIENTS,
        "examples_per_client": EACH,
        "test_examples": len(test.y),
        "larger_class": float(test.y.bincount().max()) / len(test.y),
        "asked": ASKED,
        "rounds": ROUNDS,
        "delta": DELTA,
        "clip": CLIP,
        "features": train.x.shape[1],
        "fewer_features": DIMENSIONS,
        "directions": DIRECTIONS,
        "local_steps": STEPS,
        "step_sizes": STEP_SIZES,
        "tuned_at": TUNING_EPSILON,
    }


if __name__ == "__main__":
    main()
