"""Runs rank16.toml: 16 rounds, step sizes tuned alike; then 64 rounds with what was chosen. Three seeds, SST-2.

    python research/activation/rank16.py --data FOLDER --out runs/rank16 --results research/activation/rank16.json

The settings are those of commit 2e7a0ee; check that commit out to run it again. What is done is not done again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from spry.experiment.compare import FILE, compare
from spry.experiment.files import write_json

from spry.experiment import tune
from spry.experiment.config import Config, read_config
from spry.experiment.run import META, SUMMARY

METHODS = ("weights", "activation", "block")
SEEDS = (0, 1, 2)
LONG = {"schedule.rounds": 64, "schedule.checkpoint_every": 16, "server.average": 1 - 4 / 64}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of sst2_train.tsv.gz and sst2_dev.tsv.gz"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    args = parser.parse_args()
    files = {
        "data.name": str(args.data / "sst2_train.tsv.gz"),
        "data.test": str(args.data / "sst2_dev.tsv.gz"),
    }
    short = read_config(Path(__file__).with_suffix(".toml")).with_settings(files)
    found = {"16 rounds": _compared(short, args.out / "short")}
    tried = tune.outcome(tune.trials(short, METHODS), args.out / "short")["methods"]
    chosen = {f"methods.{m}.{k}": v for m, own in tried.items() for k, v in own["chosen"].items()}
    long = short.with_settings({**LONG, **chosen})
    long = long.model_copy(update={"tune": long.tune.model_copy(update={"grid": {}, "methods": {}})})
    found["64 rounds"] = _compared(long, args.out / "long")
    provenance = json.loads((args.out / "long" / f"{METHODS[0]}-s0" / META).read_text())
    write_json(args.results, {"provenance": provenance, "tuned": tried, "comparisons": found})


def _compared(config: Config, folder: Path) -> dict[str, Any]:
    for place, event in compare(config, METHODS, SEEDS, folder):
        print(place, type(event).__name__, getattr(event, "number", ""), flush=True)
    result = json.loads((folder / FILE).read_text())
    for row in result["rows"]:
        runs = [folder / f"{row['method']}-s{seed}" / SUMMARY for seed in row["seeds"]]
        row["accuracies"] = [json.loads(run.read_text())["test_accuracy"] for run in runs]
    return {"rows": result["rows"]}


if __name__ == "__main__":
    main()
