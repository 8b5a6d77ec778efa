"""What one client in five that lies does to FedAvg on SST-2, by how the server unites replies.

    python -m benchmarks.robust DATA_FOLDER FEATURES_FILE [--seeds 0,1,2] [--out FILE]

MiniLM is frozen and its last map is trained, from features that are computed once (``privacy_features.py``); 50 of
1,000 clients with 8 texts each are asked in a round, examples lie with them alike. Every fifth client sends its update
with the sign flipped, or ten times that. Runs that are in the file are not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

from benchmarks.privacy import Dealt, MapTask
from benchmarks.privacy_features import CLIENTS, EACH, Rows, read_arguments, read_features
from benchmarks.results_file import read

from spry.core.keys import Key
from spry.experiment.atomic import write_json
from spry.experiment.provenance import provenance
from spry.federated.methods import METHODS
from spry.federated.robust import Aggregation
from spry.optim.rules import adamw, sgd
from spry.runtime import client_runner
from spry.runtime.executor import Completed, Failure
from spry.runtime.rounds import simulate
from spry.wire.codec import decode_reply, encode_reply
from spry.wire.messages import Order, Reply, Weights

OUT = Path("benchmarks/results/robust.json")
ASKED, ROUNDS, STEPS, ONE_IN = 50, 12, 2, 5
LIES: Mapping[str, float] = {"none": 1.0, "sign-flipped": -1.0, "scaled by -10": -10.0}
"""What liars multiply what they learnt with."""
RULES: Mapping[str, Aggregation] = {
    "mean": Aggregation(),
    "mean of updates clipped to 0.2": Aggregation(clip=0.2),
    "trimmed mean, 20 % at each end": Aggregation(rule="trimmed-mean", trim=0.2),
    "median": Aggregation(rule="median"),
}


@dataclass(frozen=True)
class Lying:
    """Runs clients in turn, of which some multiply what they learnt."""

    factor: float

    def run(
        self, orders: Sequence[Order], train: Callable[[Order], Completed], deadline: float | None = None
    ) -> Generator[Completed | Failure]:
        """Carry out the orders."""
        for order in orders:
            done = train(order)
            yield done if order.client % ONE_IN else done._replace(data=self._lie(done.data, order))

    def _lie(self, data: bytes, order: Order) -> bytes:
        return encode_reply(lie(decode_reply(data, order), order, self.factor), order)


def lie(reply: Reply, order: Order, factor: float) -> Reply:
    """Say that ``factor`` times as much was learnt."""
    assert isinstance(reply.payload, Weights)
    start, values = order.weights, reply.payload.values
    moved = {name: start[name] + factor * (value - start[name]) for name, value in values.items()}
    return replace(reply, payload=Weights(moved))


def accuracy(rule: str, lie: str, seed: int, train: Rows, test: Rows) -> float | None:
    """Run, and tell the accuracy on the dev part after the last round."""
    key, task = Key(seed), MapTask(train.x.shape[1])
    algorithm = METHODS.fedavg(
        task.units, client=adamw(1e-2), server=sgd(1.0), max_steps=STEPS, aggregation=RULES[rule]
    )
    *_, last = simulate(
        algorithm,
        task,  # type: ignore[arg-type]
        Dealt(train, [test], key.permutation(len(train.y), "deal"), STEPS),  # type: ignore[arg-type]
        rounds=ROUNDS,
        clients_per_round=ASKED,
        key=key,
        evaluate_every=ROUNDS,
        executor=Lying(LIES[lie]),
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
    }
    places = [
        {"seed": seed, "lie": lie, "rule": rule} for seed in asked.seeds for lie in LIES for rule in RULES
    ]
    for place in places:
        if any(place.items() <= one.items() for one in runs):
            continue
        with patch.object(
            client_runner, "peak_of", lambda step, device: step() or 0
        ):  # memory is not what is asked
            runs.append({**place, "accuracy": accuracy(**place, train=train, test=test)})
        print(runs[-1], flush=True)
        write_json(asked.out, {"provenance": provenance(), "setting": setting, "runs": runs})


if __name__ == "__main__":
    main()
