"""What each row of the comparison tried, and on what machine, when and with which versions all was run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.comparison import TRIED
from benchmarks.comparison_cells import Cell
from benchmarks.comparison_rows import ROWS
from benchmarks.comparison_words import DASH, settings
from benchmarks.readme_layout import machine_of, table


def tuning(trials: Iterable[Mapping[str, Any]], found: Mapping[Any, Mapping[str, Cell]]) -> str:
    """What each row tried, its validation accuracy and loss, and what its runs have."""
    by_row: dict[str, list[Mapping[str, Any]]] = {}
    for trial in trials:
        by_row.setdefault(trial["row"], []).append(trial)
    rows = []
    for name in [*(row for row in ROWS if row in by_row), *(row for row in by_row if row not in ROWS)]:
        best = min(by_row[name], key=_loss)
        for trial in by_row[name]:
            title = ROWS[name].title if name in ROWS else name
            mark = "**least**" if trial is best else ""
            loss = trial["validation_loss"]
            said = [settings(trial["settings"]), f"{100 * trial['curve'][-1][1]:.1f}"]
            rows.append([title, *said, DASH if loss is None else f"{loss:.4f}", mark])
    text = table(["", "tried", "validation accuracy", "validation loss", ""], rows)
    ran = "\n".join(f"- {line}" for line in _ran_with(found))
    parts = [text, _note(by_row)] + ([f"The runs have:\n\n{ran}"] if ran else [])
    return "\n\n".join(parts)


def _note(by_row: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    first = next(iter(by_row.values()))[0]
    counts: dict[int, list[str]] = {}
    for row, own in by_row.items():
        counts.setdefault(len(own), []).append(ROWS[row].title if row in ROWS else row)
    tried = [
        f"{count} setting{'s' if count > 1 else ''}: {'all' if len(counts) == 1 else ', '.join(titles)}"
        for count, titles in sorted(counts.items(), reverse=True)
    ]
    return (
        f"Trials ran on SST-2 at alpha 1 with seed 0 for {first['rounds']} rounds, and were judged on "
        f"{TRIED['data.test_examples']} training examples that they were not trained on. The least loss is chosen. A "
        "factor of the head is what its step size is multiplied with: 0 keeps it in closed form. "
        f"Tried {'; '.join(tried)}. Those with *full* in their name have FedAvg's: theirs is its gradient."
    )


def _loss(trial: Mapping[str, Any]) -> float:
    loss = trial["validation_loss"]
    return float("inf") if loss is None else loss


def _ran_with(found: Mapping[Any, Mapping[str, Cell]]) -> list[str]:
    used: dict[str, dict[str, None]] = {}
    for own in found.values():
        for cell in own.values():
            for run in cell.runs:
                used.setdefault(cell.title, {})[settings(run["chosen"])] = None
    return [f"{title}: {'; or '.join(settings)}" for title, settings in used.items()]


def origins(entries: Sequence[Mapping[str, Any]], name: str = "comparison") -> str:
    """Machine, versions, commits, seeds and dates of all that was run by the script of a name."""
    made = [entry["provenance"] for entry in entries]
    dates = sorted(one["date"][:10] for one in made)
    machines = dict.fromkeys(machine_of(one) for one in made)
    versions = dict.fromkeys(
        ", ".join(f"{name} {number}" for name, number in one["versions"].items() if number) for one in made
    )
    commits = dict.fromkeys(f"`{one['commit']}`" for one in made if one.get("commit"))
    seeds = sorted({entry["seed"] for entry in entries})
    lines = [
        f"script: `benchmarks/{name}.py`; numbers: `benchmarks/results/{name}.json`",
        f"runs and trials: {len(entries)}",
        f"machine: {'; '.join(machines)}",
        f"versions: {'; '.join(versions)}",
        f"commits: {', '.join(commits) or DASH}",
        f"seeds: {', '.join(map(str, seeds))}",
        f"dates: {' to '.join(dict.fromkeys((dates[0], dates[-1])))}",
    ]
    return "\n".join(f"- {line}" for line in lines)
