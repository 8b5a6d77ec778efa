"""Writes docs/results/long_runs.md and its picture from benchmarks/results/long_runs.json.

python -m benchmarks.long_page
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib as mpl
from benchmarks.comparison_origins import origins
from benchmarks.comparison_words import size, told
from benchmarks.long_runs import LONG, RESULTS, chosen_lr
from benchmarks.readme_layout import table
from benchmarks.results_file import read

from spry.report import style

PAGE, PICTURE = Path("docs/results/long_runs.md"), Path("docs/pictures/long-runs.png")
INTRODUCTION = """# Long runs

The published comparison finds Spry 5 to 13 points above zeroth-order methods and 0.6 to 6 below backpropagation, after
hundreds of rounds. Here all methods have as many. SST-2 is dealt to 100 clients (Dirichlet, alpha 1); five of them take
4 steps of 8 texts a round. The head is in closed form and stays. MiniLM's last block alone is trained: by LoRA of rank
1, or by a square matrix in each map (LoRA-XS of rank 4, *few dimensions*). Spry's and FedMeZO's clients measure one
direction a step, as published. What is a row's own stands in `benchmarks/long_runs.py`;
`python -m benchmarks.long_page` writes this page."""
GROUPS: Mapping[str, Sequence[str]] = {
    "LoRA of rank 1": ("fedavg", "spry", "fedmezo"),
    "few dimensions": ("fedavg_few", "spry_few", "fedmezo_few"),
}
AT = (0, 64, 256, 512, 1024)
"""Rounds that the table shows."""

Runs = Sequence[Mapping[str, Any]]


def page(runs: Runs, trials: Runs) -> str:
    """The page that results give."""
    parts = [
        INTRODUCTION,
        f"![Accuracy against rounds](../pictures/{PICTURE.name})",
        _table(runs, trials),
        *(_gap(_chosen(runs, trials), rows, name) for name, rows in GROUPS.items()),
        "The test part's standard error is 1.4 points. Each row has the best step size of three over 64 rounds, judged "
        "on 800 examples of the training part; others are named. Where little is learnt these rounds tell little, so "
        "the next larger one was run to the end, too.",
        "## Where the numbers come from\n\n" + origins([*runs, *trials], "long_runs"),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _of(runs: Runs, row: str) -> Runs:
    return sorted((run for run in runs if run["row"] == row), key=lambda run: run["seed"])


def _chosen(runs: Runs, trials: Runs) -> Runs:
    """The runs whose step size their row's trials chose."""
    return [run for run in runs if run["lr"] == chosen_lr(trials, run["row"])]


def _at(run: Mapping[str, Any], round: int) -> float:
    return dict(map(tuple, run["curve"]))[round]


def _table(runs: Runs, trials: Runs) -> str:
    rows = []
    for row, setting in LONG.items():
        for lr in sorted({run["lr"] for run in _of(runs, row)}):
            own = [run for run in _of(runs, row) if run["lr"] == lr]
            rows.append([
                setting.title + ("" if lr == chosen_lr(trials, row) else ", another step size"),
                f"{lr:g}",
                f"{own[0]['trainable_weights']:,}",
                str(len(own)),
                *(told([_at(run, round) for run in own]) for round in AT),
                size(fmean(run["bytes_up_per_client_round"] for run in own)),
            ])
    heads = ["", "step size", "numbers trained", "seeds", *(f"round {round}" for round in AT)]
    return table([*heads, "sent by a client a round"], rows)


def _gap(runs: Runs, rows: Sequence[str], name: str) -> str:
    """Say how far Spry is above FedMeZO and below FedAvg at the end, seed by seed."""
    ends = {row: {run["seed"]: run["curve"][-1][1] for run in _of(runs, row)} for row in rows}
    backward, spry, zeroth = rows
    above, below = (
        [ends[spry][seed] - value for seed, value in ends[other].items() if seed in ends[spry]]
        for other in (zeroth, backward)
    )
    if not (above and below):
        return ""
    above, below = (told(gaps, signed=True) for gaps in (above, below))
    return f"With {name}, Spry ends {above} points from FedMeZO and {below} from FedAvg."


def draw(runs: Runs) -> None:
    """Draw accuracy against rounds, the mean over the seeds, a panel for each kind of adapter."""
    with mpl.rc_context(style.LOOK):
        made = style.figure(9, 3.8)
        panels = made.subplots(1, len(GROUPS), sharey=True)
        for axes, (name, rows) in zip(panels, GROUPS.items(), strict=True):
            for place, row in enumerate(rows):
                if own := _of(runs, row):
                    x = [round for round, _ in own[0]["curve"]]
                    y = [100 * fmean(_at(run, round) for run in own) for round in x]
                    axes.plot(x, y, label=LONG[row].title.split(",")[0].split(" (")[0], **style.mark(place))
            axes.set_title(name)
            axes.set_xlabel("rounds")
        panels[0].set_ylabel("test accuracy, %")
        style.legend(made, panels[0], "outside lower center")
        style.write_png(made, PICTURE)


def main() -> None:
    """Write the page and its picture."""
    found = read(RESULTS)
    PAGE.write_text(page(found["runs"], found["trials"]), encoding="utf-8")
    draw(_chosen(found["runs"], found["trials"]))


if __name__ == "__main__":
    main()
