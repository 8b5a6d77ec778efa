"""Compares the methods on SST-2, over client data of two degrees of unevenness, and keeps the numbers.

    python benchmarks/fairness.py --train sst2_train.tsv.gz --test sst2_dev.tsv.gz --out runs/fairness

What is shared and what is tried stands in ``fairness.toml``; every method is tuned at alpha 1.0, and keeps what was
chosen there. At alpha 0.1 the same 64 local steps a participant are made in 64 rounds: after 4 steps on one client's
few classes every method predicts the commonest class. What is done in the folder is not done again, so methods may be
run a few at a time; the last call, with all of them, gathers the results.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spry.experiment import tune
from spry.experiment.compare import FILE, compare
from spry.experiment.config import Config, Tune, load
from spry.experiment.files import write_json
from spry.experiment.run import Started

CONFIG, RESULTS = Path("benchmarks/fairness.toml"), Path("benchmarks/results/fairness.json")
METHODS = (
    "fedavg", "fedyogi", "fedsgd", "fedavg_split", "fedyogi_split", "spry", "spry_activation", "spry_per_iteration",
    "spry_paper", "fedfgd", "fedmezo", "fedmezo_paper", "baffle", "fwdllm", "head_only", "fedavg_top", "spry_top",
    "head_only_top", "fedsgd_adam", "spry_block", "head_only_block",
)  # fmt: skip
OWN: dict[float, dict[str, Any]] = {
    1.0: {},
    0.1: {
        "client.steps": 1,
        "schedule.rounds": 64,
        "schedule.evaluate_every": 32,
        "schedule.checkpoint_every": 64,
    },
}
"""What is set for one alpha alone; the first is tuned."""
TUNED, *_ = OWN
SETTING = (
    "model.name", "model.max_length", "data.clients", "client.steps", "client.batch_size", "schedule.rounds",
    "schedule.clients_per_round", "tune.rounds",
)  # fmt: skip


def main() -> None:
    """Run what is missing, alpha by alpha, and write the results."""
    args = _arguments()
    config = load(CONFIG).with_settings({"data.name": str(args.train), "data.test": str(args.test)})
    before = (
        json.loads(args.results.read_text(encoding="utf-8")) if args.results.is_file() else {"alphas": {}}
    )
    found: dict[str, Any] = before["alphas"]
    for alpha in args.alphas:
        folder = args.out / _name(alpha)
        here = config.with_settings({"data.alpha": alpha, **OWN[alpha]})
        if alpha != TUNED:
            here = _settled(
                here, config.with_settings({"data.alpha": TUNED}), args.methods, args.out / _name(TUNED)
            )
        for place, event in compare(here, args.methods, args.seeds, folder):
            if isinstance(event, Started):
                print(f"alpha {alpha:g}: {place}", flush=True)
        result = json.loads((folder / FILE).read_text(encoding="utf-8"))
        setting = {key: here.flat()[key] for key in SETTING}
        found[f"{alpha:g}"] = {"setting": setting, **{n: result[n] for n in ("rows", "views", "tuning")}}
    first = args.out / _name(args.alphas[0]) / f"{args.methods[0]}-s{args.seeds[0]}" / "meta.json"
    provenance = {**json.loads(first.read_text(encoding="utf-8")), "command": ["fairness.py"]}
    write_json(args.results, {"provenance": provenance, "alphas": found})


def _name(alpha: float) -> str:
    return f"alpha-{alpha:g}"


def _settled(config: Config, tuned: Config, methods: Sequence[str], folder: Path) -> Config:
    """Give each method what was chosen for it by trials that are done, and try nothing more."""
    chosen = tune.outcome(tune.trials(tuned, methods), folder)["methods"]
    for method in methods:
        for key, value in chosen[method]["chosen"].items():
            config = config.with_settings({f"methods.{method}.{key}": value})
    return config.model_copy(update={"tune": Tune()})


def _arguments() -> argparse.Namespace:
    def several(kind: type) -> Any:
        def read(text: str) -> Sequence[Any]:
            return [kind(part) for part in text.split(",")]

        return read

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=Path, required=True, help="sentence and label, tab-separated")
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="run folders")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--methods", type=several(str), default=METHODS, help="of fairness.toml, with commas")
    parser.add_argument("--alphas", type=several(float), default=[*OWN], help="of Dirichlet's distribution")
    parser.add_argument("--seeds", type=several(int), default=[0, 1, 2])
    return parser.parse_args()


if __name__ == "__main__":
    main()
