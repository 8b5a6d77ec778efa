"""A thousand rounds with faults: what memory, file handles and threads do, and what records tell of each fault.

    python -m benchmarks.soak --out benchmarks/results/soak.json

Clients are processes of their own. One in ten is killed, hangs, or sends what is wrong, all kinds alike.
Rounds are logged and checkpointed as those of `spry run` are.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import psutil
from benchmarks.faulty import FAULTS, Faulty
from benchmarks.soak_model import Crowd, Layers

from spry.core.keys import Key
from spry.data.federation import Federation
from spry.experiment import log
from spry.experiment.atomic import write_json
from spry.experiment.checkpoint import write_checkpoint
from spry.experiment.provenance import provenance
from spry.federated.methods import METHODS
from spry.federated.spares import with_spares
from spry.runtime import client_runner
from spry.runtime.records import ClientRecord
from spry.runtime.rounds import simulate
from spry.wire.messages import Order

OUT = Path("benchmarks/results/soak.json")
KEY, SHARE = Key(17), 0.1
ASKED, SPARE, DEADLINE = 8, 2, 10.0
WELL = "none"


def fault_of(round: int, client: int) -> str | None:
    """Draw what is the matter with a client in a round."""
    draw = KEY.fold("fault", round, client).generator()
    return list(FAULTS)[draw.integers(len(FAULTS))] if draw.random() < SHARE else None


def soak(rounds: int) -> dict[str, Any]:
    """Run, and note every tenth round what the process holds."""
    algorithm, task = with_spares(METHODS.spry(Layers.units, split="cyclic"), ASKED), Layers()
    clients = cast(Federation, Crowd())
    # what forks would load each time is loaded here
    list(simulate(algorithm, task, clients, rounds=1, clients_per_round=1))
    executor = Faulty(faults=_ordered_fault, slopes_exact=algorithm.slopes_exact)
    told: dict[str, Counter[str]] = defaultdict(Counter)
    held, untrained, begun = [], 0, time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        writer = log.Writer(folder, 0)
        for record in simulate(
            algorithm,
            task,
            clients,
            rounds=rounds,
            clients_per_round=ASKED,
            key=KEY,
            evaluate_every=50,
            executor=executor,
            over_select=SPARE,
            deadline=DEADLINE,
        ):
            writer.append(record)
            untrained += len(record.untrained_units)
            for client in record.clients:
                told[fault_of(record.number, client.client) or WELL][_outcome(client)] += 1
            if record.number % 10 == 9:
                write_checkpoint(record.state, folder)
                held.append({"round": record.number + 1, "test": record.score, **holdings()})
                print(held[-1], flush=True)
    return {
        "rounds": rounds,
        "asked": ASKED,
        "spare": SPARE,
        "deadline_seconds": DEADLINE,
        "share_of_faults": SHARE,
        "seed": KEY.seed,
        "seconds": time.monotonic() - begun,
        "units_without_a_reply": untrained,
        "unit_rounds": rounds * len(Layers.units),
        "told": {fault: told[fault] for fault in (WELL, *FAULTS)},
        "held": held,
    }


def holdings() -> Mapping[str, int]:
    """What this process holds."""
    me = psutil.Process()
    return {
        "resident_bytes": me.memory_info().rss,
        "file_handles": me.num_fds(),
        "threads": me.num_threads(),
        "children": len(me.children()),
    }


def _ordered_fault(order: Order) -> str | None:
    return fault_of(order.round, order.client)


def _outcome(client: ClientRecord) -> str:
    """What the record tells, numbers left out."""
    if client.failed is not None:
        return re.sub(r"(?<![a-z\d])\d+", "N", re.sub(r"tensor \S+", "tensor T", client.failed))
    return "counts; once more is ignored" if client.ignored else "counts"


def main() -> None:
    """Run the soak and write its results."""
    unmeasured = patch.object(
        client_runner, "peak_of", lambda step, device: step() or 0
    )  # it would take seconds
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    with unmeasured:
        write_json(asked.out, {"provenance": provenance(), **soak(asked.rounds)})


if __name__ == "__main__":
    main()
