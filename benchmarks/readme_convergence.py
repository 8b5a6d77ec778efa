"""The tables of the convergence benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convergence_conditions import (
    ALONG,
    AVERAGED,
    CONDITIONS,
    METHODS,
    RANKED,
    RANKED_UNEVEN,
    SHOWN,
    TUNED,
    UNEVEN,
)
from convergence_data import FIRST, SETS
from convergence_rows import HEADS, SOURCE, Row, chosen, costs_of, found_in, label, ranked
from readme_layout import origin, spread, table

LAST = (TUNED, UNEVEN)
WAYS = {
    "": {TUNED: TUNED, UNEVEN: UNEVEN},
    ", averaged": {TUNED: AVERAGED},
    ", averaged, rank 16": {TUNED: RANKED, UNEVEN: RANKED_UNEVEN},
}
"""What the two conditions become if the mean of the server's weights is evaluated, and if the rank is larger."""
CHANCE = 0.02
"""A target that lies no further above the commonest class is none: most methods are there from the start."""


def headline(result: dict[str, Any]) -> str:
    """What the main methods reached on each data set, each in the best way it was run, and what that cost."""
    return _main_methods(result, [method for method in SHOWN if method != ALONG], best=True)


def short(result: dict[str, Any]) -> str:
    """Five rows for the README: the main methods at rank 16 and the best that only runs inference, on two data sets."""
    found = found_in(result)
    rows = []
    for method, told, at in (
        ("fedavg", "FedAvg, backpropagation + checkpointing", RANKED),
        ("spry_block", "**exact last block, forward mode below** (activation directions)", RANKED),
        ("head_only_block", "exact last block alone", RANKED),
        ("fedmezo", "FedMeZO, zeroth order", TUNED),
    ):
        first, second = (found[name, at].get(method) for name in (FIRST, "ag_news"))
        second = second or found["ag_news", TUNED].get(method)
        peak, _, operations, up = costs_of(first)
        rows.append([told, spread(first), spread(second), peak, operations, up])
    majority = [
        spread({"accuracy_mean": _majority(found[name, TUNED]), "accuracy_std": None}) for name in (FIRST, "ag_news")
    ]
    rows.append(["always the commonest class", *majority, "", "", ""])
    heads = ["", SETS[FIRST].title, SETS["ag_news"].title, "peak above the model", "operations a round", "sent a round"]
    note = (
        "MiniLM, 10 of 100 clients a round, Dirichlet alpha 1, 16 rounds of 4 steps; test accuracy, mean and deviation "
        "over 3 seeds; rank 16 and averaged weights but for FedMeZO (rank 1)."
    )
    return table(heads, rows) + f"\n\n{note} {origin(result, SOURCE)}"


def main_methods(result: dict[str, Any]) -> str:
    """What the main methods reached on each data set, last and on average, and what they cost on the first."""
    return _main_methods(result, SHOWN, best=False)


def _main_methods(result: dict[str, Any], methods: Sequence[str], *, best: bool) -> str:
    found = found_in(result)
    places = list(dict.fromkeys((name, at) for name, _ in found for at in LAST))
    blocks = []
    for method in methods:
        lines = []
        for said, ways in WAYS.items():
            own = [found.get((name, ways.get(at, "")), {}).get(method) for name, at in places]
            if own[0]:
                cells = [f"{label(own[0])}{said}", *map(spread, own), *costs_of(own[0])]
                lines.append((own[0]["accuracy_mean"], cells))
        blocks.append(lines[-1:] if best else lines)
    blocks.sort(key=lambda lines: -lines[-1][0])
    rows = [cells for lines in blocks for _, cells in lines]
    majority = [
        spread({"accuracy_mean": _majority(found[name, TUNED]), "accuracy_std": None}) for name, _ in places
    ]
    rows.append(["always the commonest class", *majority, *("" for _ in HEADS)])
    heads = ["", *(f"{SETS[name].title}, {CONDITIONS[at].title}" for name, at in places), *HEADS]
    note = (
        f"{_setting(result)} Averaged: the running mean of the server's weights over about a quarter of the rounds. "
        f"Costs are those on {SETS[FIRST].title} at alpha 1. Several runs shared the machine, so "
        "times err by tens of percent. Empty: not run."
    )
    return table(heads, rows) + f"\n\n{note} {origin(result, SOURCE)}"


def every_method(result: dict[str, Any]) -> str:
    """What each method reached on the first data set and what it cost, best first."""
    found = found_in(result)
    first = found[FIRST, TUNED]
    tried = result["sets"][FIRST][TUNED]["tuning"]["methods"]
    rows = [
        [
            label(first[name]),
            *(spread(found[FIRST, at].get(name)) for at in LAST),
            chosen(tried[name]),
            *costs_of(first[name]),
            f"{first[name]['bytes_down_per_client_round'] / 1024:.1f} KiB",
        ]
        for name in ranked(first)
        if name in METHODS
    ]
    heads = ["", *(CONDITIONS[at].title for at in LAST), "step size", *HEADS, "down"]
    return table(heads, rows) + f"\n\n{origin(result, SOURCE)}"


def costs(result: dict[str, Any]) -> str:
    """What the main methods spent until the target accuracy: rounds, and these times what one takes."""
    found = found_in(result)
    rows = []
    for (name, at), own in found.items():
        if at not in {at for ways in WAYS.values() for at in ways.values()}:
            continue
        compared = result["sets"][name][at]
        clients, target = compared["setting"]["schedule.clients_per_round"], compared["views"]["target"]
        reached = {row["method"]: row for row in target["rows"]}
        if target["target"] < _majority(own) + CHANCE:
            continue
        rows.append([
            f"{SETS[name].title}, {CONDITIONS[at].title}: {100 * target['target']:.1f} %",
            *(_spent(reached[method], own[method], clients) if method in own else "" for method in SHOWN),
        ])
    labels = {method: label(row) for own in found.values() for method, row in own.items()}
    heads = ["target", *(labels[method] for method in SHOWN)]
    return table(heads, rows) + f"\n\n{origin(result, SOURCE)}"


def _spent(reached: Mapping[str, Any], row: Row, clients: int) -> str:
    """Write what a method took to its target, and how many of its seeds got there."""
    if not reached["reached"]:
        return "never"
    rounds = reached["rounds"]
    operations = rounds * clients * row["flops_per_client_round"] / 1e12
    seconds, seeds = rounds * row["client_seconds"], f"{reached['reached']} of {reached['seeds']}"
    return f"{seeds}: {operations:.2g} TFLOP, {seconds:.0f} s, {rounds:.0f} rounds"


def _majority(rows: Mapping[str, Row]) -> float:
    return next(iter(rows.values()))["majority_accuracy"]


def _setting(result: dict[str, Any]) -> str:
    settings = {at: result["sets"][FIRST][at]["setting"] for at in LAST}
    lengths = " and ".join(
        f"{own['schedule.rounds']} rounds of {_steps(own['client.steps'])} at {CONDITIONS[at].title}"
        for at, own in settings.items()
    )
    setting = settings[TUNED]
    asked, all_clients = setting["schedule.clients_per_round"], setting["data.clients"]
    seeds = len(result["sets"][FIRST][TUNED]["rows"][0]["seeds"])
    return (
        "MiniLM, rank 1 unless it is said otherwise: test accuracy in percent, mean and sample deviation over "
        f"{seeds} seeds (the test parts' own standard error is 1 to 1.6 points, alike for all rows of a column), after "
        f"{lengths}, with {asked} clients a round of {all_clients}, batches of {setting['client.batch_size']}, data "
        "dealt by Dirichlet(alpha). Peak above the model; time of all clients, operations and bytes of one are those of"
        " a round."
    )


def _steps(count: int) -> str:
    return "1 local step" if count == 1 else f"{count} local steps"
