"""Compares the methods on four data sets, over client data of two degrees of unevenness, and keeps the numbers.

    python benchmarks/convergence.py --data FOLDER --out runs/convergence

What is shared and what is tried stands in ``convergence.toml``. All methods meet on SST-2, where each tries four points
of its grid; on the other data sets the main ones meet, and each tries again the two points that did best on SST-2. All
this is at alpha 1; at alpha 0.1 each keeps what was chosen, and makes the same 64 local steps a participant in 64
rounds: after 4 steps on one client's few classes every method predicts the commonest class. What is done in the folder
is not done again, so methods, sets and seeds may be run a few at a time; the last call, with all, gathers the results.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convergence_data import FIRST, SETS, files
from convergence_flops import flops

from spry.experiment import tune
from spry.experiment.compare import FILE, compare
from spry.experiment.config import Config, load
from spry.experiment.files import write_json
from spry.experiment.run import CONFIG as RUN
from spry.experiment.run import META, Started
from spry.experiment.sections import Tune

CONFIG, RESULTS = Path("benchmarks/convergence.toml"), Path("benchmarks/results/convergence.json")
METHODS = (
    "fedavg", "fedyogi", "fedsgd", "fedavg_split", "fedyogi_split", "spry", "spry_activation", "spry_per_iteration",
    "spry_paper", "fedfgd", "fedmezo", "fedmezo_paper", "baffle", "fwdllm", "head_only", "fedavg_top", "spry_top",
    "head_only_top", "fedsgd_adam", "spry_block", "head_only_block",
)  # fmt: skip
MAIN = ("fedavg", "head_only_block", "spry_block", "spry_paper", "fedmezo")
"""What is compared on every data set."""
TUNED, UNEVEN = 1.0, 0.1
AGAIN = 2
"""Points that are tried again on another data set."""
UNTUNED: dict[str, Any] = {
    "client.steps": 1,
    "schedule.rounds": 64,
    "schedule.evaluate_every": 32,
    "schedule.checkpoint_every": 64,
}
"""What is set where alpha is not the tuned one."""
SETTING = (
    "model.name", "model.max_length", "data.clients", "client.steps", "client.batch_size", "schedule.rounds",
    "schedule.clients_per_round", "tune.rounds",
)  # fmt: skip


def main() -> None:
    """Run what is missing, set by set and alpha by alpha, and write the results."""
    args = _arguments()
    found: dict[str, Any] = (
        json.loads(args.results.read_text(encoding="utf-8"))["sets"] if args.results.is_file() else {}
    )
    for name in args.sets:
        for alpha in args.alphas:
            methods = args.methods or (METHODS if name == FIRST else MAIN)
            config = _config(args, name, alpha, methods)
            folder = args.out / name / f"alpha-{alpha:g}"
            for place, event in compare(config, methods, args.seeds, folder):
                if isinstance(event, Started):
                    print(f"{name}, alpha {alpha:g}: {place}", flush=True)
            result = json.loads((folder / FILE).read_text(encoding="utf-8"))
            for row in result["rows"]:
                done = folder / f"{row['method']}-s{args.seeds[0]}"
                row["flops_per_client_round"] = flops(load(done / RUN))
            setting = {key: config.flat()[key] for key in SETTING}
            kept = {key: result[key] for key in ("rows", "views", "tuning")}
            found.setdefault(name, {})[f"{alpha:g}"] = {"setting": setting, **kept}
    provenance = {**json.loads((done / META).read_text(encoding="utf-8")), "command": ["convergence.py"]}
    write_json(args.results, {"provenance": provenance, "sets": found})


def _config(args: argparse.Namespace, name: str, alpha: float, methods: Sequence[str]) -> Config:
    """Say what is compared on one data set and what each method may still try there."""
    shared = load(CONFIG)
    own = {**SETS[name].settings, **files(name, args.data, args.out)}
    tuned = shared.with_settings({**own, "data.alpha": TUNED})
    if name != FIRST:
        known = shared.with_settings({**files(FIRST, args.data, args.out), "data.alpha": TUNED})
        tuned = _narrowed(tuned, known, methods, args.out / FIRST / f"alpha-{TUNED:g}")
    if alpha == TUNED:
        return tuned
    settled = _settled(tuned, methods, args.out / name / f"alpha-{TUNED:g}")
    return settled.with_settings({**UNTUNED, "data.alpha": alpha})


def _narrowed(config: Config, known: Config, methods: Sequence[str], folder: Path) -> Config:
    """Let each method try again only what did best in trials that are done."""
    tried = tune.outcome(tune.trials(known, methods), folder)["methods"]
    grids: dict[str, dict[str, list[Any]]] = {}
    for method in methods:
        ranked = sorted(tried[method]["points"], key=lambda point: point["accuracy"] or 0.0, reverse=True)
        best = [point["settings"] for point in ranked[:AGAIN]]
        grids[method] = {key: list(dict.fromkeys(point[key] for point in best)) for key in best[0]}
    return config.model_copy(update={"tune": config.tune.model_copy(update={"methods": grids})})


def _settled(tuned: Config, methods: Sequence[str], folder: Path) -> Config:
    """Give each method what was chosen for it by trials that are done, and try nothing more."""
    chosen = tune.outcome(tune.trials(tuned, methods), folder)["methods"]
    settings = {
        f"methods.{method}.{key}": value
        for method in methods
        for key, value in chosen[method]["chosen"].items()
    }
    return tuned.with_settings(settings).model_copy(update={"tune": Tune()})


def _arguments() -> argparse.Namespace:
    def several(kind: type) -> Any:
        def read(text: str) -> Sequence[Any]:
            return [kind(part) for part in text.split(",")]

        return read

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of the tab-separated files of SST-2, AG News and NLI"
    )
    parser.add_argument("--out", type=Path, required=True, help="run folders")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--sets", type=several(str), default=[*SETS], help=f"of {', '.join(SETS)}")
    parser.add_argument("--methods", type=several(str), help="of convergence.toml, with commas")
    parser.add_argument("--alphas", type=several(float), default=[TUNED, UNEVEN], help="of Dirichlet's law")
    parser.add_argument("--seeds", type=several(int), default=[0, 1, 2])
    return parser.parse_args()


if __name__ == "__main__":
    main()
