"""How tables of results are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MIB = 1 << 20


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out as Markdown."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *rows)]
    return "\n".join(lines)


def machine_of(made: Mapping[str, Any]) -> str:
    """Name the machine of a provenance: its GPU, or processor, cores and threads."""
    machine = made["machine"]
    hardware = machine.get("gpu") or f"{machine.get('cpu') or 'unknown processor'}, {machine['cpus']} cores"
    threads = machine.get("threads")
    return hardware + (f", {threads} thread{'s' if threads != 1 else ''}" if threads else "")


def origin(result: dict[str, Any], source: str) -> str:
    """Say where a table comes from."""
    made = result["provenance"]
    machine = made["machine"]
    hardware = machine.get("gpu") or f"{machine['cpus']} CPU cores"
    days = dict.fromkeys(made[when][:10] for when in ("date", "until") if when in made)
    return f"`{source}`, {hardware}, torch {made['versions']['torch']}, {' to '.join(days)}."


def spread(row: Mapping[str, Any] | None) -> str:
    """Write mean and deviation of an accuracy, the mean alone of a single seed; nothing if there is no such row."""
    if row is None:
        return ""
    deviation = None if len(row.get("seeds", "")) == 1 else row["accuracy_std"]
    return f"{100 * row['accuracy_mean']:.1f}" + (
        f" ± {100 * deviation:.1f}" if deviation is not None else ""
    )


def size(count: float) -> str:
    """Write a number of bytes."""
    return f"{count:.0f} B" if count < 1000 else f"{count / 1024:.1f} KiB"


def percent(share: float | None) -> str:
    """Write an accuracy."""
    return "" if share is None else f"{100 * share:.1f} %"
