"""The tables of the convergence benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convergence_conditions import AVERAGED, CONDITIONS, MAIN, METHODS, TUNED, UNEVEN
from convergence_data import FIRST, SETS
from convergence_rows import HEADS, SOURCE, Row, chosen, costs_of, found_in, label, ranked
from readme_layout import origin, spread, table

LAST, MEAN = (TUNED, UNEVEN), {TUNED: AVERAGED}
"""Conditions, and what they become if the mean of the server's weights is evaluated."""


def main_methods(result: dict[str, Any]) -> str:
    """What the main methods reached on each data set, last and on average, and what they cost on the first."""
    found = found_in(result)
    first = found[FIRST, TUNED]
    places = [(name, at) for name, at in found if at in LAST]
    rows = []
    for method in (method for method in ranked(first) if method in MAIN):
        for said, ways in (("", {at: at for at in LAST}), (", averaged", MEAN)):
            own = [found.get((name, ways.get(at, "")), {}).get(method) for name, at in places]
            if any(own):
                rows.append([f"{label(first[method])}{said}", *map(spread, own), *costs_of(first[method])])
    majority = [spread({"accuracy_mean": _majority(found[at]), "accuracy_std": None}) for at in places]
    rows.append(["always the commonest class", *majority, *("" for _ in HEADS)])
    heads = ["", *(f"{SETS[name].title}, {CONDITIONS[at].title}" for name, at in places), *HEADS]
    note = (
        f"{_setting(result)} Averaged: the running mean of the server's weights over about a quarter of the rounds. "
        f"Costs are those on {SETS[FIRST].title} at {CONDITIONS[TUNED].title}. Several runs shared the machine, so "
        "times err by tens of percent."
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
    """What the main methods spent until the target accuracy: rounds times what one takes."""
    rows = []
    for (name, at), own in found_in(result).items():
        compared = result["sets"][name][at]
        clients, target = compared["setting"]["schedule.clients_per_round"], compared["views"]["target"]
        if at not in {*LAST, *MEAN.values()}:
            continue
        reached = {row["method"]: row for row in target["rows"]}
        for method in (method for method in ranked(own) if method in MAIN):
            rounds = reached[method]["rounds"]
            spent = {form: price * (rounds or 0) for form, price in _prices(own[method], clients).items()}
            rows.append([
                f"{SETS[name].title}, {CONDITIONS[at].title}: {100 * target['target']:.1f} %",
                label(own[method]),
                f"{reached[method]['reached']} of {reached[method]['seeds']}",
                *("" if rounds is None else form.format(value) for form, value in spent.items()),
            ])
    heads = [
        "target",
        "method",
        "seeds that reach it",
        "rounds",
        "clients' time",
        "operations",
        "bytes, one client",
    ]
    return table(heads, rows) + f"\n\n{origin(result, SOURCE)}"


def _majority(rows: Mapping[str, Row]) -> float:
    return next(iter(rows.values()))["majority_accuracy"]


def _prices(row: Row, clients: int) -> dict[str, float]:
    """What a round takes, by how it is written."""
    sent = row["bytes_up_per_client_round"] + row["bytes_down_per_client_round"]
    return {
        "{:.0f}": 1.0,
        "{:.0f} s": row["client_seconds"],
        "{:.2g} TFLOP": clients * row["flops_per_client_round"] / 1e12,
        "{:.0f} KiB": sent / 1024,
    }


def _setting(result: dict[str, Any]) -> str:
    settings = {at: result["sets"][FIRST][at]["setting"] for at in LAST}
    lengths = " and ".join(
        f"{own['schedule.rounds']} rounds of {_steps(own['client.steps'])} at {CONDITIONS[at].title}"
        for at, own in settings.items()
    )
    setting = settings[TUNED]
    seeds = len(result["sets"][FIRST][TUNED]["rows"][0]["seeds"])
    return (
        f"MiniLM, rank 1: test accuracy in percent, mean and sample deviation of {seeds} seeds, after "
        f"{lengths}, with {setting['schedule.clients_per_round']} clients a round of {setting['data.clients']}, "
        f"batches of {setting['client.batch_size']}, data dealt by Dirichlet(alpha). Peak above the model; time of all "
        "clients, operations and bytes of one are those of a round."
    )


def _steps(count: int) -> str:
    return "1 local step" if count == 1 else f"{count} local steps"
