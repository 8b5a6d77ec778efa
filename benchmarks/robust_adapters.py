"""What one client in five that lies does to LoRA adapters, through whole runs, by how the server unites replies.

    python -m benchmarks.robust_adapters [--seeds 0] [--methods fedavg] [--lies none] [--rules median] [--out FILE]

MiniLM learns whether tweets are for or against: LoRA in the last block, its gradients exact, or in all blocks. The head
is in closed form and stays. Each run is one of ``spry run`` whose clients answer messages; every fifth of 100 trains
as it should, and sends its update with the sign flipped, or ten times that. Sums for the head are honest. Runs that are
in the file are not made again; several processes may share it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.privacy_features import numbers
from benchmarks.results_file import known, locked, read
from benchmarks.robust import LIES, ONE_IN, lying

from spry.experiment.atomic import write_json
from spry.experiment.config import Config, load_config
from spry.experiment.log import read_rounds
from spry.experiment.node import build_node
from spry.experiment.provenance import provenance
from spry.experiment.run import run
from spry.runtime import client_runner
from spry.runtime.courier import Delivery, Letter
from spry.runtime.node import ClientNode
from spry.wire.frame import Kind, read_kind

OUT = Path("benchmarks/results/robust_adapters.json")
CLIP = 1.5
"""About the norm of what an honest client learns."""
SETTINGS: Mapping[str, Any] = {
    "data.name": "polar-tweets", "data.test_examples": 500, "model.max_length": 32, "head.start": "closed-form",
    "head.clients": 5, "client.lr": 3e-3, "client.steps": 3, "schedule.decay": "linear", "schedule.rounds": 4,
    "schedule.clients_per_round": 15, "schedule.evaluate_every": 4, "schedule.evaluate_start": False,
    "schedule.personalized": False, "runtime.name": "flower", "runtime.nodes": 1, "runtime.threads": 1,
}  # fmt: skip
METHODS: Mapping[str, str] = {"head_only_block": "the last block", "fedavg": "all blocks"}
"""Where LoRA is trained."""
RULES: Mapping[str, Mapping[str, Any]] = {
    "mean": {},
    f"mean of updates clipped to {CLIP:g}": {"server.clip": CLIP},
    "trimmed mean, 20 % at each end": {"server.aggregate": "trimmed-mean", "server.trim": 0.2},
    "median": {"server.aggregate": "median"},
}


@dataclass
class Clients:
    """Carries letters to all clients in this process, of which every fifth lies.

    Args:
        node: Plays them.
        sums: Answers to questions about the head, which are the same in all runs of a seed.
    """

    node: ClientNode
    sums: dict[tuple[int, bytes], bytes]
    _known: dict[int, bytes | None] = field(default_factory=dict, init=False)

    def addresses(self) -> Sequence[int]:
        """See ``Courier``."""
        return (0,)

    def exchange(self, letters: Sequence[Letter], seconds: float) -> Iterator[Delivery]:
        """See ``Courier``."""
        for _, client, data in letters:
            yield Delivery(client, self._answer(client, data))

    def _answer(self, client: int, data: bytes) -> bytes:
        if (client, data) in self.sums:
            return self.sums[client, data]
        answer, self._known[client] = self.node.answer(client, data, self._known.get(client))
        if read_kind(data) is Kind.HEAD_QUESTION:
            self.sums[client, data] = answer
        return answer


def outcome(config: Config, clients: Clients) -> dict[str, Any]:
    """Run, and tell the accuracy after the last round, and how many replies of each round were lies."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        list(run(config, folder, courier=clients))
        rounds = read_rounds(folder)
    assert not any(client["failed"] for one in rounds for client in one["clients"])
    lies = [sum(not client["client"] % ONE_IN for client in one["clients"]) for one in rounds]
    return {"accuracy": rounds[-1]["test_accuracy"], "lies": lies}


def main() -> None:
    """Run what is not in the file yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=numbers, default="0,1,2")
    parser.add_argument("--methods", type=lambda text: text.split(","), default=list(METHODS))
    parser.add_argument("--lies", nargs="+", choices=LIES, default=[*LIES])
    parser.add_argument("--rules", nargs="+", choices=RULES, default=[*RULES])
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    for method in asked.methods:
        for seed in asked.seeds:
            places = [
                {"method": method, "seed": seed, "lie": name, "rule": rule}
                for name in asked.lies
                for rule in asked.rules
            ]
            _run_missing(places, asked.out)


def _run_missing(places: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Make the runs of a method and seed that are not in the file. Clients know nothing of how the server unites."""
    given = {**SETTINGS, "method.name": places[0]["method"], "seed": places[0]["seed"]}
    missing = [place for place in places if not known(out, "runs", place)]
    if not missing:
        return
    node, sums = build_node(load_config("quickstart", given), {}), dict[tuple[int, bytes], bytes]()
    for place in missing:
        config = load_config("quickstart", {**given, **RULES[place["rule"]]})
        liars = replace(node, algorithm=lying(node.algorithm, LIES[place["lie"]]))
        clients = Clients(liars, sums)
        with patch.object(client_runner, "peak_of", lambda step, device: step() or 0):  # memory is not asked
            found = {**place, **outcome(config, clients)}
        print(found, flush=True)
        with locked(out):
            made = {"provenance": provenance(), "settings": SETTINGS, "runs": [*read(out)["runs"], found]}
            write_json(out, made)


if __name__ == "__main__":
    main()
