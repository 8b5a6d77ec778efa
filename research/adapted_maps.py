"""Whether the recipe should adapt all maps of the last block, or queries and values alone, as FedAvg does.

    python -m research.adapted_maps --out FOLDER [--seeds 0,1,2]

The recipe on the tweets of ``make demo`` and of ``quickstart``, with ``peft.exact`` as "auto", which adapts all maps
of the last block, and as "head". What a run folder in FOLDER holds is not run again.
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from spry.experiment.atomic import write_json
from spry.experiment.config import load_config
from spry.experiment.folder import META, SUMMARY
from spry.experiment.log import read_rounds
from spry.experiment.recipe import flatten
from spry.experiment.run import run

RESULTS = Path("research/results/adapted_maps.json")
EXACT = ("auto", "head")
COSTS = (
    "operations_per_client_round", "bytes_up_per_client_round", "client_cpu_seconds", "peak_bytes_above_model",
    "trainable_weights",
)  # fmt: skip


def cases() -> Iterator[tuple[str, dict[str, Any]]]:
    """The settings of each case, beside the recipe."""
    demo = tomllib.loads(Path("benchmarks/demo.toml").read_text(encoding="utf-8"))
    own = demo.pop("methods")["residual"]
    yield (
        "demo",
        {key: value for key, value in flatten({**demo, **_joined(demo, own)}).items() if key != "base"},
    )
    yield "quickstart", {"schedule.personalized": False}


def _joined(demo: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    return {table: {**demo.get(table, {}), **values} for table, values in own.items()}


def main() -> None:
    """Run what is missing, and collect."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="run folders")
    parser.add_argument("--seeds", default="0,1,2")
    asked = parser.parse_args()
    rows = []
    for seed, (case, settings), exact in product(asked.seeds.split(","), list(cases()), EXACT):
        folder = asked.out / f"{case}-{exact}-{seed}"
        config = load_config("quickstart", {**settings, "peft.exact": exact, "seed": int(seed)})
        if not (folder / SUMMARY).is_file():
            list(run(config, folder, resume=True))
        summary, meta = (json.loads((folder / name).read_text(encoding="utf-8")) for name in (SUMMARY, META))
        rounds = read_rounds(folder)
        curve = [[0, rounds[0]["start"]["test_accuracy"]]]
        curve += [[r["round"] + 1, r["test_accuracy"]] for r in rounds if r["test_accuracy"] is not None]
        rows.append({
            "case": case,
            "exact": exact,
            "seed": int(seed),
            "curve": curve,
            **{cost: summary[cost] for cost in COSTS},
            "provenance": {key: meta[key] for key in ("date", "versions", "machine", "commit")},
        })
        write_json(RESULTS, {"rows": rows})
        print(case, exact, seed, curve, flush=True)


if __name__ == "__main__":
    main()
