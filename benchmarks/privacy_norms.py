"""How long clients' replies are before anything shortens them: what the clips of privacy_adapters.py were set by.

For each row, the norms that 30 clients' updates, or their slopes together, have in round 1: from a head in closed form
of 100 clients, without noise, under a seed of tuning.

    python -m benchmarks.privacy_norms DATA_FOLDER [--out FILE]
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.privacy_adapters import ROWS, SETTINGS, TUNING_SEEDS, texts
from benchmarks.remembered import remembering

from spry.experiment.atomic import write_json
from spry.experiment.config import load_config
from spry.experiment.provenance import provenance
from spry.experiment.run import run
from spry.runtime.client_runner import ClientRunner
from spry.wire.messages import Order, Reply, Slopes

OUT = Path("benchmarks/results/privacy_norms.json")
FREE = {name: value for name, value in SETTINGS.items() if not name.startswith("privacy.")}
SHORT = {"head.clients": 100, "schedule.rounds": 1, "schedule.clients_per_round": 30, "schedule.test": False}


def norm_of(reply: Reply, order: Order) -> float:
    """The norm of what privacy would shorten: all slopes together, or what was learnt."""
    if isinstance(reply.payload, Slopes):
        return float(reply.payload.slopes.norm())
    learnt = (value - order.weights[name] for name, value in reply.payload.values.items())
    return math.sqrt(sum(float(change.square().sum()) for change in learnt))


def norms(row: str, train: Path, test: Path, folder: Path) -> list[float]:
    """The norms of one row's replies, the shortest first."""
    found: list[float] = []
    train_as_asked = ClientRunner._train

    def noted(self: ClientRunner, order: Order) -> tuple[Any, dict[str, Any]]:
        result, spent = train_as_asked(self, order)
        found.append(norm_of(result.reply, order))
        return result, spent

    own = {"seed": TUNING_SEEDS[0], "data.name": str(train), "data.test": str(test), "server.lr": 0.1}
    config = load_config("plain", {**FREE, **ROWS[row].settings, **SHORT, **own})
    with patch.object(ClientRunner, "_train", noted):
        list(run(config, folder))
    return sorted(found)


def main() -> None:
    """Measure all rows, and write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="where the files of SST-2 are")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made, remembering():
        train = texts(asked.data, Path(made))
        found = {
            row: norms(row, train, asked.data / "sst2_dev.tsv.gz", Path(made) / f"run-{row}") for row in ROWS
        }
    write_json(asked.out, {"provenance": provenance(), "norms": found})


if __name__ == "__main__":
    main()
