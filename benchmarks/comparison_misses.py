"""Why targets of the comparison are missed, what was tried, and where that leaves each of its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.comparison_cells import CLIENTS, RIVAL, Cell, Place, crossing
from benchmarks.comparison_rows import ROWS
from benchmarks.comparison_targets import DATA, target_of
from benchmarks.comparison_words import ratio

RECIPE = "full"
TITLE = ROWS[RECIPE].title
TRIED = (
    "- *Guesses* leave out what attention carries from token to token. On single sentences little is lost, on pairs of "
    "texts 3 points (`mlp`) to 12 (`identity`, two blocks a step). In all blocks they compute each block twice, and so "
    "cost more than the exact gradient on a tape ([measured](../../research/README.md#how-large-a-tape)).",
    "- *A drawn depth* saves a tenth more operations and loses 1.8 points on pairs.",
    f"- *Peak*: *{TITLE}* keeps at most half of what checkpointing takes, or 32 MiB, whichever is more. So on these "
    "short texts it takes more than checkpointing, on long ones half, and its peak grows with depth. Constant in depth "
    "is `identity` alone ([memory](memory.md)). Fewer rows a tape take less and are slower on short texts; float16 on "
    "the tape changed the second digit of gradients.",
)


def reasons(found: Mapping[Place, Mapping[str, Cell]]) -> str:
    """Reasons as a list; empty before the recipe and its rival were run on the same data."""
    both = {place: own for place, own in found.items() if RECIPE in own and RIVAL in own and place[1] == 1}
    if not both:
        return ""
    lines = [
        f"- *Operations*: a round of *{TITLE}* takes {'; '.join(_a_round(both))} of FedAvg's. The head's sums, which "
        f"are taken of all 100 clients and alike for both, are in both prices. Without them the way to 97 % costs "
        f"{'; '.join(_without_sums(both))} of FedAvg's. The recipe asks ten clients for sums.",
        f"- *Processor seconds* follow operations in part: a step of short texts costs much in Python and launches. "
        f"Over the runs they are, seed by seed, {'; '.join(_seconds(both))} of FedAvg's; the machine was shared.",
        *TRIED,
        f"- *Where this leaves us*: *{TITLE}* has FedAvg's accuracy for three fifths of its operations. On single "
        "sentences two guessed blocks a step take half of the operations, less memory, and end a point or two lower.",
    ]
    return "### Why targets are missed, and what was tried\n\n" + "\n".join(lines)


def _a_round(both: Mapping[Place, Mapping[str, Cell]]) -> Iterator[str]:
    for place, own in both.items():
        ours, theirs = (own[row].mean("operations_per_client_round") for row in (RECIPE, RIVAL))
        yield f"{ratio(ours, theirs)} ({DATA[place[0]]})"


def _without_sums(both: Mapping[Place, Mapping[str, Cell]]) -> Iterator[str]:
    for place, own in both.items():
        target = target_of(own)
        rounds = [crossing(own[row].curve, target or 0.0) for row in (RECIPE, RIVAL)]
        costs = [own[row].mean("operations_per_client_round") for row in (RECIPE, RIVAL)]
        if all(rounds) and None not in costs:
            ours, theirs = (
                CLIENTS * cost * at for cost, at in zip(costs, rounds, strict=True) if cost and at
            )
            yield f"{ratio(ours, theirs)} ({DATA[place[0]]})"


def _seconds(both: Mapping[Place, Mapping[str, Cell]]) -> Iterator[str]:
    for place, own in both.items():
        ours, theirs = ({run["seed"]: run for run in own[row].runs} for row in (RECIPE, RIVAL))
        shares = [_share(run, theirs[seed]) for seed, run in ours.items() if seed in theirs]
        yield f"{', '.join(shares)} ({DATA[place[0]]})"


def _share(run: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    return ratio(run.get("client_cpu_seconds"), other.get("client_cpu_seconds"))
