"""What each row of the comparison tried, and on what machine, when and with which versions all was run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.comparison import TRIED, best_of
from benchmarks.comparison_cells import Cell
from benchmarks.comparison_rows import ROWS
from benchmarks.comparison_words import DASH, settings
from benchmarks.readme_layout import machine_of, table

RENAMED = {"5529e1a": "7426b80", "f94951ba": "12fb3fdd"}
"""Commits that runs recorded, and that are in the history by another name, alike in all that the runs read."""


def tuning(trials: Iterable[Mapping[str, Any]], found: Mapping[Any, Mapping[str, Cell]]) -> str:
    """What each row tried, its validation accuracy and loss, and what its runs have."""
    tried: dict[tuple[str, float], list[Mapping[str, Any]]] = {}
    for trial in trials:
        tried.setdefault((trial["row"], trial["alpha"]), []).append(trial)
    order = [*ROWS, *(row for row, _ in tried)]
    rows = []
    for (name, alpha), own in sorted(tried.items(), key=lambda one: (order.index(one[0][0]), -one[0][1])):
        best = best_of(own)
        for trial in own:
            title = ROWS[name].title if name in ROWS else name
            mark = "**best**" if trial is best else ""
            loss = trial["validation_loss"]
            said = [f"{alpha:g}", settings(trial["settings"]), f"{100 * trial['curve'][-1][1]:.1f}"]
            rows.append([title, *said, DASH if loss is None else f"{loss:.4f}", mark])
    text = table(["", "alpha", "tried", "validation accuracy", "validation loss", ""], rows)
    ran = "\n".join(f"- {line}" for line in _ran_with(found))
    parts = [text, _note(tried)] + ([f"The runs have:\n\n{ran}"] if ran else [])
    return "\n\n".join(parts)


def _note(by_place: Mapping[tuple[str, float], Sequence[Mapping[str, Any]]]) -> str:
    first = next(iter(by_place.values()))[0]
    counts: dict[int, dict[str, None]] = {}
    for (row, _), own in by_place.items():
        counts.setdefault(len(own), {})[ROWS[row].title if row in ROWS else row] = None
    tried = [
        f"{count} setting{'s' if count > 1 else ''}: {'all' if len(counts) == 1 else ', '.join(titles)}"
        for count, titles in sorted(counts.items(), reverse=True)
    ]
    return (
        f"Trials ran on SST-2 with seed 0 for {first['rounds']} rounds, for each alpha, and were judged on "
        f"{TRIED['data.test_examples']} training examples that they were not trained on. The best accuracy is chosen, "
        "of equals the least loss. A factor of the head is what its step size is multiplied with: 0 keeps it in closed "
        "form. "
        f"Tried {'; '.join(tried)}. Those with *full* in their name have FedAvg's: theirs is its gradient."
    )


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
    recorded = {one.get("commit") for one in made}
    lines += [f"`{old}` is in the history as `{new}`" for old, new in RENAMED.items() if old in recorded]
    return "\n".join(f"- {line}" for line in lines)
