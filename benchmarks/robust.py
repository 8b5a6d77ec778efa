"""What one client in five that lies does to weights and to slopes on SST-2, by how the server unites replies.

    python -m benchmarks.robust DATA_FOLDER FEATURES_FILE [--seeds 0,1,2] [--out FILE]

MiniLM is frozen and its last map is trained, from features that are computed once (``privacy_features.py``); 50 of
1,000 clients with 8 texts each are asked in a round, examples lie with them alike. FedAvg sends weights, Spry per
iteration slopes along 16 directions in the 66 dimensions of ``privacy.py``. Every fifth client sends its update, or its
slopes, with the sign flipped, or ten times that. Runs that are in the file are not made again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.privacy import DIRECTIONS, Dealt, MapTask, in_few_dimensions
from benchmarks.privacy_features import CLIENTS, EACH, Rows, read_arguments, read_features
from benchmarks.results_file import read

from spry.core.keys import Key
from spry.experiment.atomic import write_json
from spry.experiment.provenance import provenance
from spry.federated.algorithm import Algorithm
from spry.federated.client import ClientResult, LossOf
from spry.federated.methods import METHODS
from spry.federated.robust import Aggregation
from spry.optim.rules import adamw, sgd
from spry.runtime import client_runner
from spry.runtime.rounds import simulate
from spry.wire.messages import Order, Reply, Slopes, Weights

OUT = Path("benchmarks/results/robust.json")
ASKED, ROUNDS, STEPS, ONE_IN = 50, 12, 2, 5
LIES: Mapping[str, float] = {"none": 1.0, "sign-flipped": -1.0, "scaled by -10": -10.0}
"""What liars multiply what they learnt with."""
CLIPPED = "mean of clipped replies"
RULES: Mapping[str, Aggregation] = {
    "mean": Aggregation(),
    CLIPPED: Aggregation(),
    "trimmed mean, 20 % at each end": Aggregation(rule="trimmed-mean", trim=0.2),
    "median": Aggregation(rule="median"),
}


@dataclass(frozen=True)
class Sent:
    """What clients send by a method.

    Args:
        what: In words.
        clip: About the norm of what an honest client sends.
        options: The method's own.
    """

    what: str
    clip: float
    options: Mapping[str, Any]

    def aggregation(self, rule: str) -> Aggregation:
        """How a rule unites them."""
        return replace(RULES[rule], clip=self.clip) if rule == CLIPPED else RULES[rule]


SENT: Mapping[str, Sent] = {
    "fedavg": Sent("weights", 0.2, {"client": adamw(1e-2), "server": sgd(1.0), "max_steps": STEPS}),
    "spry_per_iteration": Sent(
        "slopes",
        1.0,
        {"server": sgd(1.0), "max_steps": 1, "num_directions": DIRECTIONS, "split": "everything"},
    ),
}


def lying(algorithm: Algorithm, factor: float) -> Algorithm:
    """Train as ordered; every fifth client replies as if ``factor`` times as much had been learnt."""

    def train(loss_of: LossOf, order: Order, batches: Iterable[Any], examples: int) -> ClientResult:
        found = algorithm.train(loss_of, order, batches, examples)
        return found if order.client % ONE_IN else replace(found, reply=lie(found.reply, order, factor))

    return replace(algorithm, train=train)


def lie(reply: Reply, order: Order, factor: float) -> Reply:
    """Say that ``factor`` times as much was learnt."""
    if isinstance(reply.payload, Slopes):
        return replace(reply, payload=replace(reply.payload, slopes=factor * reply.payload.slopes))
    assert isinstance(reply.payload, Weights)
    start, values = order.weights, reply.payload.values
    moved = {name: start[name] + factor * (value - start[name]) for name, value in values.items()}
    return replace(reply, payload=Weights(moved))


def accuracy(method: str, rule: str, lie: str, seed: int, train: Rows, test: Rows) -> float | None:
    """Run, and tell the accuracy on the dev part after the last round."""
    key, sent = Key(seed), SENT[method]
    if sent.what == "slopes":
        train, test = in_few_dimensions(key, train, test)
    task = MapTask(train.x.shape[1])
    algorithm = METHODS[method](task.units, aggregation=sent.aggregation(rule), **sent.options)
    algorithm = lying(algorithm, LIES[lie])
    steps = sent.options["max_steps"]
    *_, last = simulate(
        algorithm,
        task,  # type: ignore[arg-type]
        Dealt(train, [test], key.permutation(len(train.y), "deal"), steps),  # type: ignore[arg-type]
        rounds=ROUNDS,
        clients_per_round=ASKED,
        key=key,
        evaluate_every=ROUNDS,
    )
    return last.score


def standard(train: Rows, test: Rows) -> tuple[Rows, Rows]:
    """Bring every feature to mean 0 and deviation 1 of the training texts."""
    mean, deviation = train.x.mean(0), train.x.std(0)
    first, second = (Rows((rows.x - mean) / deviation, rows.y) for rows in (train, test))
    return first, second


def main() -> None:
    """Run what is not in the file yet."""
    asked = read_arguments(__doc__, OUT)
    train, test = standard(*read_features(asked.folder, asked.features))
    runs = read(asked.out)["runs"]
    setting = {
        "clients": CLIENTS,
        "examples_each": EACH,
        "asked": ASKED,
        "rounds": ROUNDS,
        "liars": 1 / ONE_IN,
        "clip": {method: sent.clip for method, sent in SENT.items()},
    }
    for seed, (method, lie, rule) in product(asked.seeds, product(SENT, LIES, RULES)):
        place = {"method": method, "seed": seed, "lie": lie, "rule": rule}
        if any(place.items() <= one.items() for one in runs):
            continue
        with patch.object(
            client_runner, "peak_of", lambda step, device: step() or 0
        ):  # memory is not what is asked
            runs.append({**place, "accuracy": accuracy(method, rule, lie, seed, train, test)})
        print(runs[-1], flush=True)
        write_json(asked.out, {"provenance": provenance(), "setting": setting, "runs": runs})


if __name__ == "__main__":
    main()
