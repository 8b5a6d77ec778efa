"""The rows of the convergence benchmark, and how tables write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convergence_conditions import COMPARED
from readme_layout import MIB

Row = Mapping[str, Any]
Found = Mapping[tuple[str, str], Mapping[str, Row]]
SOURCE = "benchmarks/convergence.py"
HEADS = ("peak", "clients' time", "operations", "up")


def costs_of(row: Row) -> list[str]:
    """Write what a round of a method costs, under ``HEADS``."""
    peak, up = memory_and_bytes(row)
    return [peak, f"{row['client_seconds']:.1f} s", f"{row['flops_per_client_round'] / 1e9:.0f} GFLOP", up]


def memory_and_bytes(row: Row) -> list[str]:
    """Write the first and the last of them."""
    return [
        f"{row['peak_bytes_above_model'] / MIB:.1f} MiB",
        f"{row['bytes_up_per_client_round'] / 1024:.1f} KiB",
    ]


def found_in(result: dict[str, Any]) -> Found:
    """Rows by method, by data set and condition, in the order of the comparison."""
    return {
        (name, at): {row["method"]: row for row in result["sets"][name][at]["rows"]}
        for name, at in COMPARED
        if at in result["sets"].get(name, {})
    }


def ranked(rows: Mapping[str, Row]) -> list[str]:
    """Order methods, the best first."""
    return sorted(rows, key=lambda name: -rows[name]["accuracy_mean"])


def label(row: Row) -> str:
    """Name a row's method, and say whether it recomputes."""
    return f"{row['method']}{' + checkpointing' if row['checkpointing'] else ''}"


def chosen(tried: Mapping[str, Any]) -> str:
    """The step size, marked if it is the least or largest that was tried."""
    return ", ".join(
        f"{value:g}{' *' if key in tried['at_edge'] else ''}"
        for key, value in tried["chosen"].items()
        if key.endswith(".lr")
    )
