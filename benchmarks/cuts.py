"""Cuts nodes of a deployment off the network in the middle of a round: what rounds tell, and what the run ends with.

    python -m benchmarks.cuts [--out benchmarks/results/cuts.json]

Each of two nodes has a network namespace and a file of its own; Flower's processes talk TLS. A link is set down
once the node has got its order, or while its reply is halfway through a slow link. Whoever is cut off is not told.
The weights are compared with those of a run in one process in which the same replies are missing. Needs root (Linux).
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

import torch
from benchmarks.deployment import Deployment
from benchmarks.kills import few_rows, tiny_bert
from benchmarks.network import Network
from safetensors.torch import load_file

from spry.experiment.agreed import agreed
from spry.experiment.atomic import write_json
from spry.experiment.checkpoint import CHECKPOINT_FILE
from spry.experiment.config import Config, read_config
from spry.experiment.flower_folder import write_deployment
from spry.experiment.log import read_rounds
from spry.experiment.node import build_node
from spry.experiment.provenance import provenance
from spry.experiment.run import run
from spry.runtime.courier import Delivery, Letter
from spry.runtime.report import Assignment, decode_message

OUT = Path("benchmarks/results/cuts.json")
SETTINGS = {
    "method.name": "fedavg", "head.start": "drawn", "model.max_length": 16, "client.steps": 1, "client.batch_size": 4,
    "schedule.rounds": 8, "schedule.clients_per_round": 2, "schedule.checkpoint_every": 1, "runtime.threads": 1,
    "schedule.evaluate_every": 4, "schedule.personalized": False, "data.partition": "column", "data.column": "node",
    "data.clients": None, "runtime.data": "nodes", "runtime.wait": 600.0, "runtime.deadline": 25.0,
}  # fmt: skip
SECONDS = 900.0
"""How long a run may take before it counts as hanging."""
NODE, ROUND = 1, 2
"""Which node is cut off, and in which round, from 1."""
KBIT, HALFWAY_SECONDS = 32, 3.0
"""How slow a link is that is cut halfway through a reply of 35 kB, and when it is."""
COMPLETED = "finished:completed"
GOT_ORDER, SENDS = "Received successfully", "Sending: "
"""What a node's log says once it has an order, and when it begins to send a reply."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """When the link of node 1 goes down and comes back.

    Args:
        halfway: Whether it goes down halfway through the node's reply, in place of as soon as the node has its order.
        back: The number of rounds after which it comes back; None never.
        settings: Of the run.
    """

    halfway: bool = False
    back: int | None = 3
    settings: Mapping[str, Any] = field(default_factory=dict)


CUTS: Mapping[str, Cut] = {
    "while it trains, for two rounds": Cut(),
    "while it trains, for good; no deadline": Cut(
        back=None, settings={"runtime.deadline": None, "schedule.rounds": 4}
    ),
    "halfway through its reply, for two rounds": Cut(
        halfway=True, settings={"peft.rank": 64, "peft.alpha": 16.0}
    ),
}


def cut_off(config: Config, files: Sequence[Path], cut: Cut, folder: Path) -> tuple[str, Path]:
    """Run a deployment, one node a file, and cut nodes off; returns how the run ended, and its folder."""
    app, home, warm = folder / "app", folder / "home", folder / "warm"
    write_deployment(app, config, "federation")
    out = home / "federation"
    facts = [f'{fact} socket="{warm}"' for fact in node_facts(files)]
    with contextlib.ExitStack() as held:
        networks = [held.enter_context(Network(index)) for index in range(len(files))]
        held.enter_context(warm_client(warm))
        deployment = held.enter_context(Deployment(app, home, facts, {"OMP_NUM_THREADS": "1"}, networks))
        held.enter_context(_story(cut, deployment, out))
        status = deployment.run(SECONDS, out / "summary.json")
    return status, out


def node_facts(files: Sequence[Path]) -> list[str]:
    """Configure nodes, one a file."""
    return [f'data="{file}" client={number}' for number, file in enumerate(files)]


@contextlib.contextmanager
def _story(cut: Cut, deployment: Deployment, out: Path) -> Generator[None]:
    """Cut and join the link as the run goes on."""
    over = Event()

    def until(condition: Callable[[], bool]) -> None:
        while not condition() and not over.wait(0.1):
            pass

    def heard(words: str) -> bool:
        """Each round once, and before them who is there."""
        return deployment.whole_log(f"node{NODE}").count(words) > ROUND

    def tell() -> None:
        network = deployment.networks[NODE]
        until(lambda: heard(GOT_ORDER))
        if cut.halfway:
            network.slow(KBIT)
            until(lambda: heard(SENDS))
            over.wait(HALFWAY_SECONDS)
        network.cut()
        until(lambda: cut.back is not None and len(read_rounds(out)) >= cut.back)
        network.full_speed()
        network.join()

    teller = Thread(target=tell)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


@contextlib.contextmanager
def warm_client(place: Path) -> Generator[None]:
    """Keep one process that holds the models of all nodes."""
    process = subprocess.Popen([sys.executable, "-m", "spry", "client", "--serve", str(place)])
    try:
        ends = time.monotonic() + SECONDS
        while not place.exists() and process.poll() is None and time.monotonic() < ends:
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(60)


class Missing:
    """Carries letters to nodes in this process; answers that a log calls missing are lost.

    Args:
        rounds: The log's.
    """

    def __init__(self, config: Config, files: Sequence[Path], rounds: Sequence[Mapping[str, Any]]) -> None:
        facts = [{"data": str(file), "client": number} for number, file in enumerate(files)]
        self.nodes = [build_node(config, own) for own in facts]
        self.missing, self.known = [failures(one) for one in rounds], dict[int, bytes | None]()

    def addresses(self) -> Sequence[int]:
        """See ``Courier``."""
        return range(len(self.nodes))

    def exchange(self, letters: Sequence[Letter], seconds: float) -> Iterator[Delivery]:
        """See ``Courier``."""
        is_round = isinstance(decode_message(letters[0].data), Assignment)
        missing = self.missing.pop(0) if is_round else {}
        for address, client, data in letters:
            if client in missing:
                yield Delivery(client, b"", missing[client])
                continue
            answer, self.known[client] = self.nodes[address].answer(client, data, self.known.get(client))
            yield Delivery(client, answer)


def failures(entry: Mapping[str, Any]) -> dict[int, str]:
    """Of a round in the log, why which client's reply does not count."""
    return {one["client"]: one["failed"] for one in entry["clients"] if one["failed"]}


def same_weights(config: Config, files: Sequence[Path], out: Path, folder: Path) -> bool:
    """Whether a run in one process in which the same replies are missing ends with the same bits."""
    courier = Missing(config, files, read_rounds(out))
    list(run(config.with_settings({"runtime.deadline": None}), folder, courier=courier))
    ours, theirs = (load_file(one / CHECKPOINT_FILE) for one in (out, folder))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def own_files(file: Path, folder: Path, nodes: int = 2) -> tuple[list[Path], Path]:
    """Deal a table's rows to as many files, and write one of all rows, whose column ``node`` tells whose they are."""
    with file.open(encoding="utf-8") as table:
        rows = [{**row, "node": place // 2 % nodes} for place, row in enumerate(csv.DictReader(table))]
    together = folder / "together.csv"
    write_rows(together, rows)
    files = [folder / f"node{node}.csv" for node in range(nodes)]
    for node, own in enumerate(files):
        write_rows(own, [row for row in rows if row["node"] == node])
    return files, together


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def measure(cut: Cut, model: Path, table: Path, folder: Path) -> dict[str, Any]:
    """Run once, and tell how it ended, and of each round how long it took and who failed."""
    files, together = own_files(table, folder)
    own = {"model.name": str(model), "data.name": str(together), "data.test": str(together)}
    config = agreed(read_config("plain", {**SETTINGS, **own, **cut.settings}))
    status, out = cut_off(config, files, cut, folder)
    rounds = [{"seconds": entry["seconds"], "failed": failures(entry)} for entry in read_rounds(out)]
    same = status == COMPLETED and same_weights(config, files, out, folder / "here")
    return {"status": status, "settings": dict(cut.settings), "rounds": rounds, "same_weights": same}


def main() -> None:
    """Cut nodes off and write what became of the runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    found = {}
    for name, cut in CUTS.items():
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            model, table = tiny_bert(folder / "model"), few_rows(folder / "reviews.csv")
            found[name] = measure(cut, model, table, folder)
            print(name, found[name], flush=True)
    write_json(asked.out, {"provenance": provenance(), "settings": SETTINGS, "cuts": found})


if __name__ == "__main__":
    main()
