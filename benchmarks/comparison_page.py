"""Writes the comparison's page, its pictures, and its table in the README, from benchmarks/results/comparison.json.

python -m benchmarks.comparison_page [--check]

Whatever has not been run is a dash, and is named. With ``--check`` nothing is written, and pages that are not what
would be written are named.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.comparison import ALPHAS, RESULTS, SEEDS
from benchmarks.comparison_cells import RIVAL, Cell, Place, cells
from benchmarks.comparison_misses import reasons
from benchmarks.comparison_missing import missing
from benchmarks.comparison_origins import origins, tuning
from benchmarks.comparison_pictures import draw, picture
from benchmarks.comparison_rows import ROWS
from benchmarks.comparison_tables import budgets, costs, main_table, scores, to_target
from benchmarks.comparison_targets import undecided, verdicts, where
from benchmarks.convergence_data import SETS
from benchmarks.readme_layout import table

PAGE, README = Path("docs/results/comparison.md"), Path("README.md")
SHORT = ("last_block", "full", RIVAL, "spry", "spry_few", "fedmezo")
"""Rows that the README shows."""
SHOWN = ("sst2", "ag_news", "nli")
"""Data sets that it shows; costs are those on the first."""
INTRODUCTION = """# The comparison

Every method starts from the same head, solved in closed form before round 1. All have the same data, rounds, precision
and batches. What is a row's own stands in `benchmarks/comparison_rows.py`, what all share in
`benchmarks/comparison.toml`. [Earlier comparisons](archive/README.md) began with untrained heads.
`python -m benchmarks.comparison_page` writes this page."""
READING = """## How to read the tables

- **Accuracy** is of the test part, in percent: mean and sample deviation over the seeds. The test part's own standard
  error is 1 to 1.6 points, alike for all rows.
- **- FedAvg** is the difference to FedAvg + checkpointing, seed by seed, after the last round that both were
  evaluated after.
- **Operations, processor time and peak** are multiples of what FedAvg + checkpointing takes on the same data:
  operations of a client and round, processor seconds of all clients over the run with what the head's sums took, and
  the peak of a client's step above the model. Other work on the machine slows processors, too.
- **Sent and received** are bytes of a client that is asked in every round, over the run, without the head's sums,
  which are alike for all rows.
- **Cost to a target** is what was spent when the mean accuracy first crosses it, on straight lines between evaluated
  rounds; the head's sums are in it where the runs say what they took. Operations and processor time are of all
  clients, bytes those sent and received by a client that is asked in every round.
- **Within bytes** is the mean accuracy after as many rounds as a client's uploads may take, on the same lines, with
  these rounds in brackets. The step size falls towards the last round of the whole run, so that a run that is planned
  shorter may get further.
- Spry, FedMeZO and FwdLLM by weights have rank 1 and the last block's exact gradients, as *last block, rank 1* has,
  and measure slopes below it. In few dimensions nothing but slopes is measured.
- Two methods have no row. MeSP computes FedAvg's gradient: its accuracy is FedAvg's, its peak stands in
  [memory](memory.md). Guided directions, a guess whose length or sign a slope measures, are compared in
  [research](../../research/README.md).
- Step sizes were tried on SST-2 alone, for each alpha, with the head fixed. All data sets have the best of them."""


def page(result: Mapping[str, Any]) -> str:
    """The page that results give."""
    found = cells(result)
    parts = [INTRODUCTION]
    if left := missing(found):
        parts.append("## Not run yet\n\n" + "\n".join(f"- {line}" for line in left) + f"\n\n{_whole(found)}")
    if found:
        parts += [_targets(found), READING]
        parts += [_of_set(name, found) for name in SETS if any(place[0] == name for place in found)]
    if result["trials"]:
        parts.append("## Step sizes\n\n" + tuning(result["trials"], found))
    if entries := [*result["runs"], *result["trials"]]:
        parts.append("## Where the numbers come from\n\n" + origins(entries))
    return "\n\n".join(parts) + "\n"


def _whole(found: Mapping[Place, Mapping[str, Cell]]) -> str:
    """How long the whole comparison takes, by what a run of it took so far."""
    runs = [
        run["client_cpu_seconds"] / 60 for own in found.values() for cell in own.values() for run in cell.runs
    ]
    count = len(ROWS) * len(SETS) * len(ALPHAS) * len(SEEDS)
    if not runs:
        return f"The whole comparison is {count} runs."
    return (
        f"The whole comparison is {count} runs. Those that were made took {min(runs):.0f} to {max(runs):.0f} minutes "
        "of a processor in their clients. What targets ask about was run first; `python -m benchmarks.comparison` "
        "goes on with the rest."
    )


def _targets(found: Mapping[Place, Mapping[str, Cell]]) -> str:
    rows = list(verdicts(found))
    parts = ["## Targets"]
    if rows:
        parts.append(table(["asked", "where", "row", "seeds of both", "measured", ""], rows))
    if open_ := undecided(found):
        parts.append(
            "Not decided, because a row has not been run or the head alone is there already:\n\n"
            + "\n".join(f"- {line}" for line in open_)
        )
    parts.append("Peak on larger models: [memory and time of a step](memory.md).")
    if why := reasons(found):
        parts.append(why)
    return "\n\n".join(parts)


def _of_set(name: str, found: Mapping[Place, Mapping[str, Cell]]) -> str:
    parts = [
        f"## {SETS[name].title}",
        f"![Accuracy against rounds and operations](../pictures/{picture(name).name})",
    ]
    for place, own in sorted(found.items(), key=lambda item: -item[0][1]):
        if place[0] == name:
            parts += [f"### {where(place)}", main_table(own), to_target(own), budgets(own)]
    return "\n\n".join(parts)


def short(result: Mapping[str, Any]) -> str:
    """The README's table: main rows on three data sets at alpha 1; a pointer to the page until they are there."""
    found = cells(result)
    every = [found.get((name, 1.0), {}) for name in SHOWN]
    first = every[0]
    link = "[the comparison](docs/results/comparison.md)"
    if RIVAL not in first:
        return (
            f"The methods are being compared from the same closed-form head: {link} says what has been run."
        )
    rows = [
        [
            "the head in closed form, before round 1",
            *(scores(own, None) for own in every),
            *[""] * 3,
        ]
    ]
    rows += [
        [first[row].title, *(scores(own, row) for own in every), *costs(first[row])]
        for row in SHORT
        if row in first
    ]
    rounds, counts = first[RIVAL].rounds[-1], sorted({len(first[row].seeds) for row in SHORT if row in first})
    seeds = " to ".join(map(str, counts[:1] if len(counts) == 1 else (counts[0], counts[-1])))
    note = (
        f"MiniLM, 10 of 100 clients a round, Dirichlet alpha 1, {rounds} rounds of 4 steps; test accuracy, mean and "
        f"deviation over {seeds} seed{'s' if seeds != '1' else ''}. All rows, targets and misses: {link}."
    )
    heads = [
        "",
        *(SETS[name].title for name in SHOWN),
        "peak above the model",
        "operations a round",
        "sent a round",
    ]
    return table(heads, rows) + f"\n\n{note}"


def pages(result: Mapping[str, Any]) -> dict[Path, str]:
    """Both pages as they shall be."""
    marked = r"(<!-- comparison:begin -->\n).*?(<!-- comparison:end -->)"
    text, count = re.subn(
        marked,
        lambda m: f"{m[1]}{short(result)}\n{m[2]}",
        README.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    assert count == 1, f"{README} has {count} places for the table of the comparison"
    return {PAGE: page(result), README: text}


def read() -> dict[str, Any]:
    """The committed results; none if there are none yet."""
    return (
        json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {"trials": [], "runs": []}
    )


def main() -> None:
    """Write pages and pictures, or name the pages where that would change something."""
    result = read()
    made = pages(result)
    stale = [path for path, text in made.items() if path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        names = ", ".join(map(str, stale))
        sys.exit(f"run python -m benchmarks.comparison_page: {names} are not up to date" if stale else 0)
    for path in stale:
        path.write_text(made[path], encoding="utf-8")
    draw(cells(result))


if __name__ == "__main__":
    main()
