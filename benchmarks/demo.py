"""Keeps what `make demo` found: its numbers for the README's table, and its picture.

make demo && python benchmarks/demo.py runs/demo
"""

from __future__ import annotations

import argparse
import json
import shutil
from datetime import UTC, datetime
from math import ceil
from pathlib import Path

from spry.compare.compare import COMPARISON
from spry.experiment.atomic import write_json
from spry.experiment.log import LOG_FILE

RESULTS, PICTURES = Path("benchmarks/results"), Path("docs/pictures")
PROVENANCE = ("date", "python", "versions", "machine", "commit", "command")
LABELS = {
    "head_only": "frozen backbone, the head from its closed form on",
    "head_only_block": "the last block, exact gradients",
    "residual": "**The recipe**: backpropagation that computes nothing twice",
    "fedavg": "FedAvg, backpropagation + checkpointing",
}


def main() -> None:
    """Copy the comparison with its provenance and how long it took, and its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/demo"))
    folder = parser.parse_args().folder
    rows = json.loads((folder / COMPARISON).read_text(encoding="utf-8"))["rows"]
    first = folder / f"{rows[0]['method']}-s{rows[0]['seeds'][0]}" / "meta.json"
    meta = json.loads(first.read_text(encoding="utf-8"))
    written = datetime.fromtimestamp((folder / COMPARISON).stat().st_mtime, UTC)
    RESULTS.mkdir(parents=True, exist_ok=True)
    PICTURES.mkdir(parents=True, exist_ok=True)
    write_json(
        RESULTS / "demo.json",
        {
            "provenance": {key: meta[key] for key in PROVENANCE},
            "minutes": ceil((written - datetime.fromisoformat(meta["date"])).total_seconds() / 60),
            "start": json.loads((first.parent / LOG_FILE).read_text(encoding="utf-8").split("\n")[0])[
                "start"
            ]["test_accuracy"],
            "rows": [{"label": LABELS.get(row["method"], row["method"]), **row} for row in rows],
        },
    )
    for picture in sorted((folder / "report").glob("*.png")):
        shutil.copy(picture, PICTURES / f"demo-{picture.name}")


if __name__ == "__main__":
    main()
