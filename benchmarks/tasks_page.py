"""Writes docs/results/tasks.md and its pictures from benchmarks/results/tasks.json.

python -m benchmarks.tasks_page
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from benchmarks.comparison_origins import origins
from benchmarks.readme_layout import MIB, table
from benchmarks.results_file import read
from benchmarks.tasks import CASES, RESULTS, ROWS

from spry.report import style
from spry.tasks.score_text import score_factor, score_label, score_value

PAGE, PICTURES = Path("docs/results/tasks.md"), Path("docs/pictures")
INTRODUCTION = """# Other tasks than classes

Each method has the same start, data, rounds, step size and batches. What all share stands in `benchmarks/tasks/`, what
is a row's own in `benchmarks/tasks.py`. Step sizes are not tuned, and each row is one seed unless it says more: these
runs show that the tasks learn, and what a step costs; [the comparison](comparison.md) is where methods are ranked.
`python -m benchmarks.tasks_page` writes this page."""
READING = """Operations, processor time and peak are multiples of what FedAvg + checkpointing takes: operations of a
client and round, processor seconds of all clients over the run, and the peak of a client's step above the model. Other
work on the machine slows processors, too."""
RIVAL, DASH = "fedavg", "–"

Runs = Sequence[Mapping[str, Any]]


def page(runs: Runs) -> str:
    """The page that results give."""
    parts = [INTRODUCTION, READING]
    for name, case in CASES.items():
        if own := [run for run in runs if run["case"] == name]:
            parts += [
                f"## {case.title}",
                f"![Score against rounds](../pictures/{picture(name).name})",
                _table(own),
                *([case.note] if case.note else []),
            ]
    if runs:
        parts.append("## Where the numbers come from\n\n" + origins(runs, "tasks"))
    return "\n\n".join(parts) + "\n"


def picture(name: str) -> Path:
    """Where the picture of a case is."""
    return PICTURES / f"tasks-{name}.png"


def _table(own: Runs) -> str:
    score = own[0]["score"]["name"]
    heads = ["", "seeds", f"before round 1: {score_label(score)}", "at the end", "test loss", "operations"]
    rival = _mean_costs([run for run in own if run["row"] == RIVAL])
    rows = []
    for row in ROWS:
        if runs := [run for run in own if run["row"] == row]:
            costs = _mean_costs(runs)
            rows.append([
                ROWS[row].title,
                str(len(runs)),
                *(
                    score_value(_mean([run["curve"][at][f"test_{score}"] for run in runs]), score)
                    for at in (0, -1)
                ),
                f"{_mean([run['curve'][-1]['test_loss'] for run in runs]):.3f}",
                *(_ratio(costs[key], rival.get(key)) for key in rival or costs),
            ])
    baseline = own[0]["score"]["baseline"]
    note = "" if baseline is None else f"\n\nAn answer that needs no model: {score_value(baseline, score)}."
    absolute = _absolute(rival)
    return table([*heads, "processor time", "peak"], rows) + note + absolute


def _mean_costs(runs: Runs) -> dict[str, float]:
    keys = ("operations_per_client_round", "client_cpu_seconds", "peak_bytes_above_model")
    return {key: _mean([run[key] for run in runs]) for key in keys} if runs else {}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _ratio(value: float, rival: float | None) -> str:
    return f"{value / rival:.2f} x" if rival else DASH


def _absolute(rival: Mapping[str, float]) -> str:
    if not rival:
        return ""
    operations, seconds, peak = rival.values()
    return (
        f"\n\nFedAvg + checkpointing takes {operations / 1e9:.0f} GFLOP a client and round, {seconds:.0f} s of all "
        f"clients' processors over the run, and {peak / MIB:.0f} MiB above the model."
    )


def draw(name: str, own: Runs) -> None:
    """Draw a case's score against rounds: the mean over the seeds."""
    score = own[0]["score"]["name"]
    with mpl.rc_context(style.LOOK):
        made = style.figure(6.4, 4.2)
        axes = made.subplots()
        for place, row in enumerate(ROWS):
            if runs := [run for run in own if run["row"] == row]:
                points = [
                    [entry[f"test_{score}"] * score_factor(score) for entry in run["curve"]] for run in runs
                ]
                axes.plot(
                    [entry["round"] for entry in runs[0]["curve"]],
                    [_mean(column) for column in zip(*points, strict=True)],
                    label=ROWS[row].title,
                    **style.mark(place),
                )
        axes.set_xlabel("rounds")
        axes.set_ylabel(score_label(score, "test"))
        style.legend(made, axes, "outside lower center", columns=3)
        style.write_png(made, picture(name))


def main() -> None:
    """Write the page and its pictures."""
    runs = read(RESULTS)["runs"]
    PAGE.write_text(page(runs), encoding="utf-8")
    for name in CASES:
        if own := [run for run in runs if run["case"] == name]:
            draw(name, own)


if __name__ == "__main__":
    main()
