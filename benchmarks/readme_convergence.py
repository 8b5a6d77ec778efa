"""The tables of the convergence benchmark."""

from __future__ import annotations

from collections.abc import Mapping
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
    """What the main methods reached on each data set, each in the best way it was run."""
    found = found_in(result)
    places = list(dict.fromkeys((name, at) for name, _ in found for at in LAST))
    rows = []
    for method in (method for method in SHOWN if method != ALONG):
        said, ways = [way for way in WAYS.items() if method in found.get((FIRST, way[1][TUNED]), {})][-1]
        own = [found.get((name, ways.get(at, "")), {}).get(method) for name, at in places]
        rows.append([own[0], [f"{label(own[0])}{said}", *map(spread, own)]])
    rows.sort(key=lambda row: -row[0]["accuracy_mean"])
    majority = [
        spread({"accuracy_mean": _majority(found[name, TUNED]), "accuracy_std": None}) for name, _ in places
    ]
    heads = ["", *(f"{SETS[name].title}, {CONDITIONS[at].title}" for name, at in places)]
    lines = [*(cells for _, cells in rows), ["always the commonest class", *majority]]
    return table(heads, lines) + f"\n\n{_setting(result)} {origin(result, SOURCE)}"


def short(result: dict[str, Any]) -> str:
    """Five rows for the README: the main methods at rank 16 and the best that only runs inference, on two data sets."""
    found = found_in(result)
    rows = []
    for method, told, at in (
        ("fedavg", "FedAvg, backpropagation + checkpointing", RANKED),
        ("spry_block", "exact last block, activation directions below (default until 2026-11-29)", RANKED),
        ("head_only_block", "exact last block alone", RANKED),
        ("fedmezo", "FedMeZO, zeroth order", TUNED),
    ):
        first, second = (found[name, at].get(method) for name in (FIRST, "ag_news"))
        second = second or found["ag_news", TUNED].get(method)
        peak, _, operations, up = costs_of(first)
        rows.append([told, spread(first), spread(second), peak, operations, up])
    majority = [
        spread({"accuracy_mean": _majority(found[name, TUNED]), "accuracy_std": None})
        for name in (FIRST, "ag_news")
    ]
    rows.append(["always the commonest class", *majority, "", "", ""])
    heads = [
        "",
        SETS[FIRST].title,
        SETS["ag_news"].title,
        "peak above the model",
        "operations a round",
        "sent a round",
    ]
    note = (
        "MiniLM, 10 of 100 clients a round, Dirichlet alpha 1, 16 rounds of 4 steps; test accuracy, mean and deviation "
        "over 3 seeds; rank 16 and averaged weights but for FedMeZO (rank 1)."
    )
    return table(heads, rows) + f"\n\n{note} {origin(result, SOURCE)}"


def data_set(result: dict[str, Any], name: str) -> str:
    """What the main methods reached on a data set in each way they were run, and what they cost there."""
    found, blocks = found_in(result), []
    for method in SHOWN:
        lines = []
        for said, ways in WAYS.items():
            own = [found.get((name, ways.get(at, "")), {}).get(method) for at in LAST]
            if first := own[0] or own[1]:
                lines.append((
                    first["accuracy_mean"],
                    [f"{label(first)}{said}", *map(spread, own), *costs_of(first)],
                ))
        blocks.append(lines)
    blocks = sorted(filter(None, blocks), key=lambda lines: -lines[-1][0])
    majority = spread({"accuracy_mean": _majority(found[name, TUNED]), "accuracy_std": None})
    rows = [cells for lines in blocks for _, cells in lines]
    rows.append(["always the commonest class", majority, majority, *("" for _ in HEADS)])
    heads = ["", *(CONDITIONS[at].title for at in LAST), *HEADS]
    return table(heads, rows) + f"\n\n{_setting(result)} Costs are those at alpha 1. {origin(result, SOURCE)}"


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


def costs(result: dict[str, Any], name: str) -> str:
    """What the main methods spent on a data set until the target accuracy: rounds, and these times what one takes."""
    found, rows = found_in(result), []
    for at in (
        at for where, at in found if where == name and at in {a for w in WAYS.values() for a in w.values()}
    ):
        compared, own = result["sets"][name][at], found[name, at]
        clients, target = compared["setting"]["schedule.clients_per_round"], compared["views"]["target"]
        if target["target"] < _majority(own) + CHANCE:
            continue
        reached = {row["method"]: row for row in target["rows"]}
        rows += [
            [
                f"{CONDITIONS[at].title}: {100 * target['target']:.1f} %",
                label(own[method]),
                *_spent(reached[method], own[method], clients),
            ]
            for method in SHOWN
            if method in own
        ]
    heads = ["target", "", "seeds there", "rounds", "operations", "clients' time"]
    return table(heads, rows) + f"\n\n{origin(result, SOURCE)}"


def _spent(reached: Mapping[str, Any], row: Row, clients: int) -> list[str]:
    """Write how many of a method's seeds reached its target, and what that took them."""
    if not reached["reached"]:
        return ["none", "", "", ""]
    rounds = reached["rounds"]
    operations = rounds * clients * row["flops_per_client_round"] / 1e12
    return [
        f"{reached['reached']} of {reached['seeds']}",
        f"{rounds:.0f}",
        f"{operations:.2g} TFLOP",
        f"{rounds * row['client_seconds']:.0f} s",
    ]


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
        f"Test accuracy in percent: mean and sample deviation over {seeds} seeds. The test parts' own standard error "
        f"is 1 to 1.6 points, alike for all rows. MiniLM, rank 1 unless a row says otherwise; {lengths}; {asked} of "
        f"{all_clients} clients a round; batches of {setting['client.batch_size']}; data dealt by Dirichlet(alpha). "
        "Averaged rows evaluate the running mean of the server's weights over about a quarter of the rounds. Peak is "
        "above the model; time is of all clients of a round, operations and bytes of one client and round. Several "
        "runs shared the machine, so times err by tens of percent. Empty: not run."
    )


def _steps(count: int) -> str:
    return "1 local step" if count == 1 else f"{count} local steps"
