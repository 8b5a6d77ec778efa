"""Tables and figures of the convergence benchmark, from its rows alone.

    python benchmarks/convergence_report.py OUT/rows.jsonl --out docs/convergence

Of each recipe's values the one with the best mean validation accuracy (the clients' held-out parts, the last three
evaluations, all seeds) is chosen; the test part is looked at only then.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

Row = dict[str, Any]

REFERENCE = "fedavg"
SHARE = 0.97
"""Of the reference's final accuracy; what it costs to reach this is compared."""

AXES = {"round": "Rounds", "client_seconds": "Client seconds", "bytes_up": "Bytes sent by clients"}


def main() -> None:
    """Print tables, and write the chosen values and figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("rows", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, help="folder for chosen.json and figures")
    args = parser.parse_args()
    rows = read(args.rows)
    best = {setting: chosen(group) for setting, group in grouped(rows).items()}
    for setting, recipes in best.items():
        print(f"\n{setting[0]}, Dirichlet alpha {setting[1]}\n\n{table(recipes)}")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        values = {
            f"{data}/{recipe}": value
            for (data, _), found in best.items()
            for recipe, (value, _) in found.items()
        }
        (args.out / "chosen.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        for (data, alpha), recipes in best.items():
            figure(recipes, args.out / f"{data}-{alpha}.svg")


def read(paths: Sequence[Path]) -> list[Row]:
    """Read rows that ran to their end; of a job with several, the last."""
    rows: dict[str, Row] = {}
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row.get("finished"):
                rows[row["job"]] = row
    return list(rows.values())


def grouped(rows: Sequence[Row]) -> dict[tuple[str, float], list[Row]]:
    """Group rows by data set and partition."""
    groups: dict[tuple[str, float], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["data"], row["settings"].get("data.alpha", 1.0)].append(row)
    return groups


def chosen(rows: Sequence[Row]) -> dict[str, tuple[float, list[Row]]]:
    """Choose each recipe's value by validation; gives the value and its rows, one a seed."""
    tried: dict[str, dict[float, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        tried[row["recipe"]][row["settings"][row["tuned"]]].append(row)
    best: dict[str, tuple[float, list[Row]]] = {}
    for recipe, values in tried.items():
        value = max(values, key=lambda value: fmean(validation(row) for row in values[value]))
        best[recipe] = (value, values[value])
    return best


def validation(row: Row) -> float:
    """Mean validation accuracy of the last three evaluations."""
    return fmean(point["validation_accuracy"] for point in row["curve"][-3:])


def final(row: Row) -> float:
    """Test accuracy after the last round."""
    return row["curve"][-1]["test_accuracy"]


def cost_to_reach(row: Row, accuracy: float, axis: str) -> float | None:
    """What it cost until the test accuracy first was as high; None if it never was."""
    return next((point[axis] for point in row["curve"] if point["test_accuracy"] >= accuracy), None)


def table(recipes: dict[str, tuple[float, list[Row]]]) -> str:
    """Write a Markdown table, the most accurate first."""
    reference = fmean(map(final, recipes[REFERENCE][1])) if REFERENCE in recipes else None
    lines = [
        "| recipe | value | seeds | accuracy | to fedavg | validation "
        "| rounds to 97 % | s to 97 % | kB up to 97 % | kB up |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    ordered = sorted(recipes.items(), key=lambda item: -fmean(map(final, item[1][1])))
    for recipe, (value, rows) in ordered:
        accuracies = [final(row) for row in rows]
        spread = f" ± {100 * stdev(accuracies):.1f}" if len(accuracies) > 1 else ""
        cells = [recipe, f"{value:g}", str(len(rows)), f"{100 * fmean(accuracies):.1f}{spread}"]
        cells.append("" if reference is None else f"{100 * (fmean(accuracies) - reference):+.1f}")
        cells.append(f"{100 * fmean(map(validation, rows)):.1f}")
        for axis, unit in (("round", 1), ("client_seconds", 1), ("bytes_up", 1e3)):
            costs = [cost_to_reach(row, SHARE * (reference or 1), axis) for row in rows]
            known = [cost for cost in costs if cost is not None]
            cells.append(f"{fmean(known) / unit:.0f}" if len(known) == len(rows) else "")
        cells.append(f"{fmean(row['bytes_up'] for row in rows) / 1e3:.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def figure(recipes: dict[str, tuple[float, list[Row]]], target: Path) -> None:
    """Draw test accuracy against rounds, client seconds and bytes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawn, axes = plt.subplots(1, len(AXES), figsize=(15, 4.5), sharey=True)
    for (axis, label), place in zip(AXES.items(), axes, strict=True):
        for recipe, (_, rows) in recipes.items():
            points = list(zip(*(row["curve"] for row in rows), strict=False))
            x = [fmean(point[axis] for point in seeds) for seeds in points]
            y = [fmean(point["test_accuracy"] for point in seeds) for seeds in points]
            place.plot(x, y, label=recipe, linewidth=1.2)
        place.set_xlabel(label)
        place.grid(alpha=0.3)
        if axis == "bytes_up":
            place.set_xscale("log")
    axes[0].set_ylabel("Test accuracy")
    axes[-1].legend(fontsize=6, loc="lower right")
    drawn.tight_layout()
    drawn.savefig(target)
    plt.close(drawn)


if __name__ == "__main__":
    main()
