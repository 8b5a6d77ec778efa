"""Every method from the same closed-form head: what each reaches, and at what cost.

A run is a row of ``comparison_rows.py`` on a data set, with an alpha and a seed; what it gave goes into the results as
soon as it ends, and what is there is not run again. A killed run goes on from its last checkpoint. Two processes may
share the results, each with other rows.

    python -m benchmarks.comparison DATA --out runs/comparison --tune            # trials, once
    python -m benchmarks.comparison DATA --out runs/comparison --rows identity,fedavg --sets sst2 --seeds 0,1,2

Tuning: each row tries three step sizes with the head fixed, then two factors of the head at the best of them, on SST-2
with seed 0 over a quarter of the rounds, for each alpha, judged on 800 examples of the training part. All data sets
keep that.

A row that trains in the last block alone may be ``--remembered``: all below that is run once for each text
(``remembered.py``), so that sixteen central differences a step take minutes. What the row costs is not known then.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from benchmarks.comparison_rows import HEADS, ROWS
from benchmarks.convergence_data import SETS, files
from benchmarks.remembered import remembering
from benchmarks.results_file import add, known, read

from spry.experiment.config import Config, read_config
from spry.experiment.folder import META, SUMMARY
from spry.experiment.log import read_rounds
from spry.experiment.run import run

CONFIG, RESULTS = Path("benchmarks/comparison.toml"), Path("benchmarks/results/comparison.json")
ALPHAS, SEEDS = (1.0, 0.1), (0, 1, 2)
TRIED = {
    "schedule.rounds": 16,
    "schedule.evaluate_every": 16,
    "schedule.test": False,
    "data.validation": 0.1,
    "data.test_examples": 800,
}
COSTS = (
    "operations_per_client_round", "bytes_up_per_client_round", "bytes_down_per_client_round", "client_cpu_seconds",
    "peak_bytes_above_model", "trainable_weights", "rounds", "head",
)  # fmt: skip


UNKNOWN = dict.fromkeys((
    "operations_per_client_round",
    "client_cpu_seconds",
    "peak_bytes_above_model",
    "head",
))
"""What a run that remembers does not tell of its costs."""


def main() -> None:
    """Run what is missing of what is asked for."""
    args = _arguments()
    with remembering() if args.remembered else nullcontext():
        _carry_out(args)


def _carry_out(args: argparse.Namespace) -> None:
    for row in args.rows:
        if args.tune:
            for alpha in () if ROWS[row].trials else args.alphas:
                _tuned(args, row, alpha)
            continue
        for name, alpha, seed in ((n, a, s) for n in args.sets for a in args.alphas for s in args.seeds):
            place = {"set": name, "alpha": alpha, "seed": seed, "row": row}
            if not known(args.results, "runs", place):
                config = _config(args, place).with_settings(_best(args.results, row, alpha))
                _run(args, "runs", place, config)


def _tuned(args: argparse.Namespace, row: str, alpha: float) -> None:
    """Try step sizes with the head fixed, then the head's factors at the best of them."""
    place = {"set": "sst2", "alpha": alpha, "seed": 0, "row": row}
    lr = f"{ROWS[row].stepper}.lr"
    points = [{lr: value, "step_factors.head": 0.0} for value in ROWS[row].tries(alpha)]
    for settings in points:
        _try(args, place, settings)
    best = _best(args.results, row, alpha)
    for factor in () if args.body_only else HEADS[1:]:
        _try(args, place, {**best, "step_factors.head": factor})


def _try(args: argparse.Namespace, place: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    place = {**place, "settings": dict(settings)}
    if not known(args.results, "trials", place):
        _run(args, "trials", place, _config(args, place).with_settings({**TRIED, **settings}))


def _best(results: Path, row: str, alpha: float) -> dict[str, Any]:
    """The settings that the row's trials at an alpha choose."""
    tried = ROWS[row].trials or row
    trials = [one for one in read(results)["trials"] if (one["row"], one["alpha"]) == (tried, alpha)]
    if not trials:
        raise SystemExit(f"{tried} has no trials at alpha {alpha:g} in {results}. Run with --tune first.")
    return best_of(trials)["settings"]


def best_of(trials: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The trial with the best validation accuracy, and of equals the one with the least loss."""
    return max(trials, key=lambda trial: (trial["curve"][-1][1], -_loss(trial)))


def _loss(trial: Mapping[str, Any]) -> float:
    loss = trial["validation_loss"]
    return float("inf") if loss is None else loss


def _config(args: argparse.Namespace, place: Mapping[str, Any]) -> Config:
    row, name = ROWS[place["row"]], place["set"]
    method = {f"method.{option}": value for option, value in row.method.items()}
    return read_config(CONFIG).with_settings({
        **SETS[name].settings,
        **files(name, args.data, args.out),
        "seed": place["seed"],
        "data.alpha": place["alpha"],
        **row.settings,
        **method,
    })


def _run(args: argparse.Namespace, kind: str, place: Mapping[str, Any], config: Config) -> None:
    parts = [str(value) for key, value in place.items() if key != "settings"]
    parts += [f"{value:g}" for value in place.get("settings", {}).values()]
    folder = args.out / kind / "-".join(parts)
    print(f"{kind}: {folder.name}", flush=True)
    for _ in run(config, folder, resume=True):
        pass
    found = {**place, **outcome(folder, config), **(UNKNOWN if args.remembered else {})}
    add(args.results, kind, found)
    print(f"  {found['curve'][0][1]} -> {found['curve'][-1][1]}", flush=True)


def outcome(folder: Path, config: Config) -> dict[str, Any]:
    """What a run gave: the accuracy before the first round and after each evaluated one, and its costs."""
    rounds = read_rounds(folder)
    part = "validation" if config.data.validation else "test"
    start = rounds[0]["start"]
    curve = [[0, start[f"{part}_accuracy"]]]
    curve += [
        [entry["round"] + 1, entry[f"{part}_accuracy"]]
        for entry in rounds
        if entry[f"{part}_accuracy"] is not None
    ]
    summary, meta = (json.loads((folder / name).read_text(encoding="utf-8")) for name in (SUMMARY, META))
    return {
        "curve": curve,
        f"{part}_loss": rounds[-1][f"{part}_loss"],
        **{key: summary[key] for key in COSTS},
        "chosen": {key: config.flat()[key] for key in ("client.lr", "server.lr", "step_factors.head")},
        "provenance": {key: meta[key] for key in ("date", "versions", "machine", "commit")},
    }


def _listed(text: str) -> Iterator[str]:
    yield from text.split(",")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of the tab-separated files of SST-2, AG News and NLI")
    parser.add_argument("--out", type=Path, required=True, help="run folders")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--tune", action="store_true", help="try step sizes instead of running")
    parser.add_argument("--remembered", action="store_true", help="run frozen blocks once for each text")
    parser.add_argument("--body-only", action="store_true", help="of these, leave the head's factors at 0")
    parser.add_argument("--rows", type=lambda text: list(_listed(text)), default=[*ROWS])
    parser.add_argument("--sets", type=lambda text: list(_listed(text)), default=[*SETS])
    parser.add_argument("--alphas", type=lambda text: [float(a) for a in _listed(text)], default=[*ALPHAS])
    parser.add_argument("--seeds", type=lambda text: [int(s) for s in _listed(text)], default=[*SEEDS])
    return parser.parse_args()


if __name__ == "__main__":
    main()
