"""The tables of a run's work dealt over processes."""

from __future__ import annotations

from statistics import median
from typing import Any

from readme_layout import MIB, origin, table

SOURCE = "benchmarks/workers.py"
NAMES = {
    "alone": "one process, one thread",
    "dealt": "two processes, one thread each",
    "two threads": "one process, two threads",
}


def workers(result: dict[str, Any]) -> str:
    """Seconds, gains and bits of the three ways, and the memory of two processes."""
    turns = result["turns"]
    rows = []
    for arm, name in NAMES.items():
        gains = result["speed_up"].get(arm)
        rows.append([
            name,
            f"{median(turn[arm]['round'] for turn in turns):.2f} s",
            f"{gains['round']:.2f} x" if gains else "",
            f"{median(turn[arm]['evaluation'] for turn in turns):.2f} s",
            f"{gains['evaluation']:.2f} x" if gains else "",
            f"{result['work'][arm]:.2f} x" if gains else "",
            f"{result['equal_bits'][arm]} of {len(turns)}" if gains else "",
        ])
    heads = [
        "",
        "a round",
        "faster",
        "an evaluation",
        "faster",
        "processors' work",
        "turns with the bits of one thread",
    ]
    loads, memory = [turn["load"] for turn in turns], result["memory"]
    note = (
        f"Medians of {len(turns)} turns; gains and work are multiples, turn by turn, of one process. Load before them: "
        f"{min(loads):.0f} to {max(loads):.0f}."
    )
    room = (
        f"The helper holds {memory['helper']['own_bytes'] / MIB:.0f} MiB of its own and the leader "
        f"{memory['leader']['own_bytes'] / MIB:.0f} MiB: Python, PyTorch, the tokenised data, and each its own copy of "
        f"the model's {memory['weights_bytes'] / MIB:.0f} MiB. {memory['helper']['shared_bytes'] / MIB:.0f} MiB, of "
        "libraries for the most part, are shared."
    )
    return table(heads, rows) + f"\n\n{note} {room} {origin(result, SOURCE)}"


def scale(result: dict[str, Any]) -> str:
    """What a round would take with more processes and clients, and clients that are faster."""
    rows = [
        [
            f"{row['processes']}",
            f"{row['clients']:,}",
            f"{row['faster']} x",
            _seconds(row["client_seconds"]),
            _seconds(row["training_seconds"]),
            _seconds(row["leader_seconds"]),
            _seconds(row["training_seconds"] + row["leader_seconds"]),
            f"{row['speed_up']:.1f} x",
        ]
        for row in result["scale"]
    ]
    heads = [
        "processes",
        "clients a round",
        "faster than here",
        "a client",
        "training",
        "the leader's own work",
        "a round",
        "faster than one process",
    ]
    serial = result["serial"]
    note = (
        f"Measured: {1000 * serial['absorb_seconds']:.2f} ms to absorb a reply, {1000 * serial['travel_seconds']:.2f} "
        f"ms for a message of {serial['message_bytes']:,} bytes through the mailbox."
    )
    return table(heads, rows) + f"\n\n{note} {origin(result, SOURCE)}"


def _seconds(value: float) -> str:
    return f"{value:.3f} s" if value < 1 else f"{value:,.1f} s"
