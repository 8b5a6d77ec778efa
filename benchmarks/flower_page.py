"""Writes docs/results/flower.md from benchmarks/results/flower.json.

python -m benchmarks.flower_page
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.flower import IN_ONE, OVER_FLOWER, RIVAL_ROW, WARM
from benchmarks.readme_layout import origin, table

PAGE, RESULTS = Path("docs/results/flower.md"), Path("benchmarks/results/flower.json")
SOURCE = "benchmarks/flower.py"
KIB = 1 << 10
HEADS = (
    "", "first round", "a later round", "processor seconds a round", "sent up a round", "sent down a round",
    "over the loopback a round", "furthest weight",
)  # fmt: skip

Results = Mapping[str, Any]


def page(results: Results) -> str:
    """The page that results give."""
    return "\n\n".join([_introduction(results), _table(results), _reading(results), _origin(results)]) + "\n"


def _introduction(results: Results) -> str:
    settings, rounds = results["settings"], results["rows"][IN_ONE]["rounds"]
    return (
        "# A federation over Flower\n\n"
        f"MiniLM on tweets: {results['nodes']} nodes over TLS with a key each, on one machine, {rounds} rounds, "
        f"{settings['client.steps']} local steps of {settings['client.batch_size']} texts. All rows train LoRA "
        "weights and the head by FedAvg, from the same weights and on the same batches; nothing is evaluated. "
        "[How to run one](../howto/flower.md). `python -m benchmarks.flower` makes the runs, "
        "`python -m benchmarks.flower_page` this page."
    )


def _table(results: Results) -> str:
    rows = [[name, *_cells(found)] for name, found in results["rows"].items()]
    return table(HEADS, rows)


def _cells(found: Mapping[str, Any]) -> list[str]:
    crossed, furthest = found.get("bytes_loopback_per_round"), found.get("furthest_weight")
    return [
        f"{found['seconds_first_round']:.1f} s",
        f"{found['seconds_per_round']:.1f} s",
        f"{found['cpu_seconds_per_round']:.1f}",
        _kib(found["bytes_up_per_round"]),
        _kib(found["bytes_down_per_round"]),
        "" if crossed is None else _kib(crossed),
        "" if furthest is None else "equal, bit for bit" if furthest == 0 else f"{furthest:.1g} off",
    ]


def _kib(count: float) -> str:
    return f"{count / KIB:,.0f} KiB"


def _reading(results: Results) -> str:
    rows = results["rows"]
    rival = rows[RIVAL_ROW]

    def against(name: str, key: str) -> str:
        return f"{rows[name][key] / rival[key]:.2f}"

    return (
        "*A later round* is the median without the first. *Processor seconds* are of all processes from the start of "
        "the run to its end, by the rounds. *Sent* is what Spry's messages hold, and what Flower's records hold. What "
        "crosses the loopback has TLS, Flower's polling and passing on between processes of one node in it. *Furthest "
        "weight* is against one process.\n\n"
        f"Against Flower's FedAvg, a later round of Spry takes {against(OVER_FLOWER, 'seconds_per_round')} of the "
        f"seconds with a process a message and {against(WARM, 'seconds_per_round')} with warm clients, and "
        f"{against(OVER_FLOWER, 'cpu_seconds_per_round')} and {against(WARM, 'cpu_seconds_per_round')} of the "
        f"processor seconds; it sends {against(WARM, 'bytes_up_per_round')} of the bytes up."
    )


def _origin(results: Results) -> str:
    return f"{origin(results, SOURCE)[:-1]}, Flower {results['flower']}."


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
