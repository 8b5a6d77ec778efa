"""Compares the methods on real data sets, under several conditions, and keeps the numbers.

    python benchmarks/convergence.py --data FOLDER --out runs/convergence

What is shared and what is tried stands in ``convergence.toml``, who is compared where in ``convergence_conditions.py``.
All methods meet on SST-2, where each tries four points of its grid; on the other data sets the main ones meet, and each
tries again the two points that did best on SST-2. All this is at alpha 1. Under the other conditions each keeps what
was chosen there. At alpha 0.1 it makes the same 64 local steps a participant in 64 rounds: after 4 steps on one
client's few classes every method predicts the commonest class. Averaged means that the running mean of the server's
weights is evaluated. What is done in the folder is not done again, so methods, sets, conditions and seeds may be run a
few at a time; the last call gathers, and what it was not asked for stays as it is in the file. Methods that join a
comparison are held to its target and its budget:

    python benchmarks/convergence.py --data FOLDER --out runs/convergence --results benchmarks/results/convergence.json

Where the folder has no trials of what a condition builds on, those of the committed results count.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from convergence_conditions import COMPARED, CONDITIONS, SHOWN, TUNED
from convergence_data import FIRST, SETS, files

from spry.compare import tune
from spry.compare.compare import COMPARISON, compare_methods
from spry.compare.costs import Budget
from spry.core.errors import ConfigError
from spry.experiment.atomic import write_json
from spry.experiment.config import Config, read_config
from spry.experiment.folder import META, SUMMARY, matches
from spry.experiment.run import Started
from spry.tasks.score import Score

CONFIG, RESULTS = Path("benchmarks/convergence.toml"), Path("benchmarks/results/convergence.json")
AGAIN = 2
"""Points that are tried again on another data set."""
SETTING = (
    "model.name", "model.max_length", "data.clients", "client.steps", "client.batch_size", "schedule.rounds",
    "schedule.clients_per_round", "tune.rounds",
)  # fmt: skip


def main() -> None:
    """Run what is missing, comparison by comparison, and gather the results if all was asked for."""
    args = _arguments()
    found: dict[str, Any] = _read(args.results)["sets"] if args.results and args.results.is_file() else {}
    for (name, condition), all_methods in COMPARED.items():
        if name not in args.sets or condition not in args.conditions:
            continue
        methods = args.methods or all_methods
        config = _config(args, name, condition, methods)
        folder, seeds = args.out / name / condition, args.seeds[: CONDITIONS[condition].seeds]
        known = found.get(name, {}).get(condition) if set(methods) < set(all_methods) else None
        for place, event in compare_methods(config, methods, seeds, folder, **_held_to(known)):
            if isinstance(event, Started):
                print(f"{name}, {CONDITIONS[condition].title}: {place}", flush=True)
        if args.results:
            new = _gathered(config, folder, args.seeds[0])
            found.setdefault(name, {})[condition] = _joined(known, new, all_methods) if known else new
    if args.results:
        dates = [own["provenance"]["date"] for part in found.values() for own in part.values()]
        provenance = {**found[FIRST][TUNED]["provenance"], "date": min(dates), "until": max(dates)}
        write_json(args.results, {"provenance": provenance, "sets": found})


def _held_to(known: dict[str, Any] | None) -> dict[str, Any]:
    """The limits of a comparison that methods join; an older one was limited in wall time, too, which is no more."""
    if known is None:
        return {}
    views = known["views"]
    limits = {field.name: views["budget"]["budget"].get(field.name) for field in fields(Budget)}
    return {"budget": Budget(**limits), "target": (views["target"] or {}).get("target")}


def _joined(known: dict[str, Any], new: dict[str, Any], order: Sequence[str]) -> dict[str, Any]:
    """Put methods into a comparison, in the place of what it had of them."""
    both = (known, new)

    def rows(old: dict[str, Any], own: dict[str, Any]) -> list[Any]:
        by_name = {row["method"]: row for row in (*old["rows"], *own["rows"])}
        return sorted(by_name.values(), key=lambda row: [*order, row["method"]].index(row["method"]))

    old, own = ({**part["views"], "equal_rounds": _at_common_rounds(part, both)} for part in both)
    views = {name: view and {**view, "rows": rows(view, own[name])} for name, view in old.items()}
    tuning = known["tuning"] and {
        **known["tuning"],
        "methods": {**known["tuning"]["methods"], **new["tuning"]["methods"]},
    }
    provenance = {**known["provenance"], "date": new["provenance"]["date"]}
    return {**known, "provenance": provenance, "rows": rows(known, new), "views": views, "tuning": tuning}


def _at_common_rounds(part: dict[str, Any], both: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a comparison saw after the rounds that both looked after."""
    common = set.intersection(*(set(one["views"]["equal_rounds"]["rounds"]) for one in both))
    view = part["views"]["equal_rounds"]
    kept = [place for place, rounds in enumerate(view["rounds"]) if rounds in common]
    rows = [{**row, "after": [row["after"][place] for place in kept]} for row in view["rows"]]
    return {"rounds": [view["rounds"][place] for place in kept], "rows": rows}


def _gathered(config: Config, folder: Path, seed: int) -> dict[str, Any]:
    """Sum up a comparison that is done."""
    result = _read(folder / COMPARISON)
    for row in result["rows"]:
        runs = [folder / f"{row['method']}-s{seed}" for seed in row["seeds"]]
        row["accuracies"] = [_read(run / SUMMARY)["test_accuracy"] for run in runs]
        row["commits"] = sorted({_read(run / META)["commit"] for run in runs})
        if row["method"] in SHOWN or folder.name == TUNED:  # the others' costs are in no table
            row["flops_per_client_round"] = row["operations_per_client_round"]
    provenance = {
        **_read(folder / f"{result['rows'][0]['method']}-s{seed}" / META),
        "command": ["convergence.py"],
    }
    setting = {key: config.flat()[key] for key in SETTING}
    return {
        "provenance": provenance,
        "setting": setting,
        **{key: result[key] for key in ("rows", "views", "tuning")},
    }


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def _config(args: argparse.Namespace, name: str, condition: str, methods: Sequence[str]) -> Config:
    """Say what is compared on one data set and what each method may still try there."""
    shared = read_config(CONFIG).with_settings(CONDITIONS[TUNED].settings)
    own = shared.with_settings({**SETS[name].settings, **files(name, args.data, args.out)})
    asked = CONDITIONS[condition]
    if condition == TUNED:
        if name == FIRST:
            return own
        known = shared.with_settings(files(FIRST, args.data, args.out))
        return _narrowed(own, _tried(known, methods, args.out, FIRST, TUNED))
    if asked.settled:
        basis = _config(args, name, asked.settled, methods)
        own = _settled(basis, _tried(basis, methods, args.out, name, asked.settled))
    else:
        own = _tuning(own, grid=asked.grid, methods={})
    return own.with_settings(asked.settings)


def _narrowed(config: Config, tried: dict[str, Any]) -> Config:
    """Let each method try again only what did best in trials that are done."""
    grids: dict[str, dict[str, list[Any]]] = {}
    for method, own in tried.items():
        best = [
            point["settings"] for point in tune.rank_points(own["points"], Score(name="accuracy"))[:AGAIN]
        ]
        grids[method] = {key: list(dict.fromkeys(point[key] for point in best)) for key in best[0]}
    return _tuning(config, methods=grids)


def _settled(tuned: Config, tried: dict[str, Any]) -> Config:
    """Give each method what was chosen for it by trials that are done, and try nothing more."""
    settings = {
        f"methods.{method}.{key}": value
        for method, own in tried.items()
        for key, value in own["chosen"].items()
    }
    return _tuning(tuned.with_settings(settings), grid={}, methods={})


def _tuning(config: Config, **changed: Any) -> Config:
    return config.model_copy(update={"tune": config.tune.model_copy(update=changed)})


def _tried(config: Config, methods: Sequence[str], out: Path, name: str, condition: str) -> dict[str, Any]:
    """Look up what came of trials, by method: in the run folders, or in the committed results."""
    folder = out / name / condition
    trials = tune.list_trials(config, methods)
    if all(matches(trial.config, folder / trial.place) for trial in trials):
        return tune.choose_settings(trials, folder)["methods"]
    known = _read(RESULTS)["sets"].get(name, {}).get(condition, {}).get("tuning") or {"methods": {}}
    if missing := [method for method in methods if method not in known["methods"]]:
        raise ConfigError(
            f"neither {folder} nor {RESULTS} has the trials of {', '.join(missing)}. Run {name} and {condition} first."
        )
    return {method: known["methods"][method] for method in methods}


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
    parser.add_argument(
        "--results",
        type=Path,
        help=f"gather the results there, such as {RESULTS}; needs all that is compared",
    )
    parser.add_argument("--sets", type=several(str), default=[*SETS], help=f"of {', '.join(SETS)}")
    parser.add_argument("--methods", type=several(str), help="of convergence.toml, with commas")
    parser.add_argument(
        "--conditions", type=several(str), default=[*CONDITIONS], help=f"of {', '.join(CONDITIONS)}"
    )
    parser.add_argument("--seeds", type=several(int), default=[0, 1, 2])
    return parser.parse_args()


if __name__ == "__main__":
    main()
