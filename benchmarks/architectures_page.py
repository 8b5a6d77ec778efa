"""Writes docs/results/architectures.md from benchmarks/results/architectures.json.

python -m benchmarks.architectures_page [--check]

With ``--check`` nothing is written, and a page that is not what would be written is named.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.readme_layout import machine_of, table

RESULTS = Path("benchmarks/results/architectures.json")
PAGE = Path("docs/results/architectures.md")
INTRODUCTION = """# Architectures

Which model types of `transformers` train, by task, [PEFT kind](../howto/peft.md) and precision. Each is built tiny with
random weights. Along a random direction of each unit, the engine's slope of the task's loss is compared with
backpropagation's; `spry check` does the same for one's own model. `python -m benchmarks.architectures` measures, and
`python -m benchmarks.architectures_page` writes this page.

- *all*: LoRA in float32, float64 and bfloat16, and rsLoRA, DoRA, VeRA, IA3, BitFit, norms and, where a head is
  trained, the head alone in float32 pass. What does not is named, and the notes below say why.
- *exact*: `peft.exact = "auto"` finds a last block and gives it exact gradients.
- A dash: `transformers` has no such head for the type.
- Where experts are chosen, rounding in bfloat16 may choose another one at a near tie. Up to three draws of weights are
  tried there. Where an error in bfloat16 is more than a tenth of the gradient's length, backpropagation's own gradient
  is compared with that in float32: *rounding* says that it is off by at least half as much; both are rounded."""


def read() -> dict[str, Any]:
    """Read the committed results."""
    return json.loads(RESULTS.read_text(encoding="utf-8"))


def page(result: Mapping[str, Any]) -> str:
    """The page that results give."""
    rows = result["rows"]
    families, tasks = (list(dict.fromkeys(row[name] for row in rows)) for name in ("family", "task"))
    notes: dict[str, int] = {}
    of = {(row["family"], row["task"]): [] for row in rows}
    for row in rows:
        of[row["family"], row["task"]].append(row)
    lines = [[family, *(_cell(of[family, task], notes) for task in tasks)] for family in families]
    counts = [_count(rows, task) for task in tasks]
    listed = "\n".join(f"{number}. {reason}" for reason, number in notes.items())
    used = ", ".join(f"{name} {result['versions'][name]}" for name in ("torch", "transformers", "peft"))
    ran = (
        f"{len(families)} model types, weights and words of seed 0. `benchmarks/architectures.py`, numbers in "
        f"`{RESULTS}`; {machine_of(result)}; {used}; commit `{result['commit']}`, {result['date'][:10]}."
    )
    parts = [INTRODUCTION, table(["type", *tasks], [*lines, ["**passed**", *counts]]), ran]
    return "\n\n".join([*parts, "## Notes", listed] if notes else parts) + "\n"


def _count(rows: Sequence[Mapping[str, Any]], task: str) -> str:
    tried = [row for row in rows if row["task"] == task and row["verdict"] != "absent"]
    return f"{sum(row['verdict'] == 'pass' for row in tried)} of {len(tried)}"


def _cell(rows: Sequence[Mapping[str, Any]], notes: dict[str, int]) -> str:
    if all(row["verdict"] == "absent" for row in rows):
        return "-"
    failed = [row for row in rows if row["verdict"] != "pass"]
    exact = ", exact" if any(row.get("last_block") for row in rows) else ""
    by_reason: dict[int, list[str]] = {}
    for row in failed:
        number = notes.setdefault(_why(row), len(notes) + 1)
        by_reason.setdefault(number, []).append(_case(row))
    named = ", ".join(f"{' '.join(cases)} [{number}]" for number, cases in by_reason.items())
    if len(failed) == len(rows):
        return f"none {' '.join(f'[{number}]' for number in by_reason)}"
    return f"all{exact}" if not failed else f"all{exact} but {named}"


def _case(row: Mapping[str, Any]) -> str:
    return row["peft"] if row["precision"] == "float32" else row["precision"]


def _why(row: Mapping[str, Any]) -> str:
    if row["verdict"] == "refused":
        return row["reason"].rstrip(".") + "."
    if row["verdict"] == "not finite":
        return "Backpropagation's gradient is not a number on padded rows."
    if row["verdict"] == "rounding":
        return "Rounding: backpropagation's own gradient is off by at least half as much in bfloat16."
    if row["verdict"] == "crash":
        return f"**Crash**: {row['reason']}."
    return f"**Wrong**: the slope is off by {row['error']:.0e} of the gradient's length."


def main() -> None:
    """Write the page, or name it if it is stale."""
    text = page(read())
    if "--check" in sys.argv[1:]:
        sys.exit(f"{PAGE} is not what would be written" if PAGE.read_text(encoding="utf-8") != text else 0)
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
