"""Directions below the last block beside the last block alone, from research/activation."""

from __future__ import annotations

from statistics import fmean, stdev
from typing import Any

from readme_layout import MIB, origin, spread, table

SOURCE = "research/activation/rank16.py"
ROWS = {
    "block": "exact last block, nothing below it",
    "weights": "the same, weight directions below: the default of `spry run` until 2026-11-29",
    "activation": "the same, activation directions below (contrib)",
}
"""What the rows are, by the method's name in the comparison."""


def recipes(result: dict[str, Any]) -> str:
    """What each reached after either number of rounds, how far it is from the block alone, and what a round costs."""
    spans = {span: {row["method"]: row for row in own["rows"]} for span, own in result["comparisons"].items()}
    rows = []
    for name, said in ROWS.items():
        cells = [cell for own in spans.values() for cell in (spread(own[name]), _beyond_block(own, name))]
        last = list(spans.values())[-1][name]
        peak, up = last["peak_bytes_above_model"] / MIB, last["bytes_up_per_client_round"] / 1024
        seconds = [f"{own[name]['client_seconds']:.1f}" for own in spans.values()]
        rows.append([said, *cells, f"{peak:.1f} MiB", f"{' and '.join(seconds)} s", f"{up:.1f} KiB"])
    heads = [""]
    for span in spans:
        heads += [span, "- block alone"]
    note = (
        "SST-2, MiniLM, rank 16, alpha 1, 4 local steps, averaged weights: accuracy in percent, mean and sample "
        "deviation over 3 seeds, and the differences seed by seed. Each chose 0.01, the larger of two step sizes, on a "
        "validation part; a larger one may be better. Time is of all clients of a round, on a machine that other jobs "
        "shared."
    )
    return table([*heads, "peak", "clients' time", "up"], rows) + f"\n\n{note} {origin(result, SOURCE)}"


def _beyond_block(rows: dict[str, Any], name: str) -> str:
    if name == "block":
        return ""
    apart = [
        100 * (a - b) for a, b in zip(rows[name]["accuracies"], rows["block"]["accuracies"], strict=True)
    ]
    return f"{fmean(apart):+.1f} ± {stdev(apart):.1f}"
