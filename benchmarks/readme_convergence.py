"""The tables of the convergence benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convergence import COMPARED, MAIN, TUNED
from convergence_data import FIRST, SETS
from readme_layout import MIB, origin, spread, table

Row = Mapping[str, Any]
SOURCE = "benchmarks/convergence.py"


def main_methods(result: dict[str, Any]) -> str:
    """What the main methods reached on each data set, and what they cost on the first, the best there first."""
    found = _found(result)
    first, *_ = found.values()
    rows = [
        [_label(first[name]), *(spread(own.get(name)) for own in found.values()), *_costs(first[name])]
        for name in _ranked(first)
        if name in MAIN
    ]
    majority = [spread({"accuracy_mean": _majority(own), "accuracy_std": None}) for own in found.values()]
    rows.append(["always the commonest class", *majority, *("" for _ in HEADS)])
    heads = ["", *(f"{SETS[name].title}, alpha {alpha:g}" for name, alpha in found), *HEADS]
    note = (
        f"{_setting(result)} Costs are those on {SETS[FIRST].title} at alpha {TUNED:g}. Several runs shared the "
        "machine, so times err by tens of percent."
    )
    return table(heads, rows) + f"\n\n{note} {origin(result, SOURCE)}"


def every_method(result: dict[str, Any]) -> str:
    """What each method reached on the first data set and what it cost, best first."""
    found = {alpha: own for (name, alpha), own in _found(result).items() if name == FIRST}
    first, *_ = found.values()
    tried = result["sets"][FIRST][f"{TUNED:g}"]["tuning"]["methods"]
    rows = [
        [
            _label(first[name]),
            *(spread(own.get(name)) for own in found.values()),
            _chosen(tried[name]),
            *_costs(first[name]),
            f"{first[name]['bytes_down_per_client_round'] / 1024:.1f} KiB",
        ]
        for name in _ranked(first)
    ]
    heads = ["", *(f"alpha {alpha:g}" for alpha in found), "step size", *HEADS, "down"]
    return table(heads, rows) + f"\n\n{origin(result, SOURCE)}"


def costs(result: dict[str, Any]) -> str:
    """What the main methods spent until the target accuracy, by data set and alpha: rounds times what one takes."""
    rows = []
    for (name, alpha), own in _found(result).items():
        compared = result["sets"][name][f"{alpha:g}"]
        clients, target = compared["setting"]["schedule.clients_per_round"], compared["views"]["target"]
        reached = {row["method"]: row for row in target["rows"]}
        for method in (method for method in _ranked(own) if method in MAIN):
            rounds = reached[method]["rounds"]
            spent = {form: price * (rounds or 0) for form, price in _prices(own[method], clients).items()}
            rows.append([
                f"{SETS[name].title}, alpha {alpha:g}: {100 * target['target']:.1f} %",
                _label(own[method]),
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


def _chosen(tried: Mapping[str, Any]) -> str:
    """The step size, marked if it is the least or largest that was tried."""
    return ", ".join(
        f"{value:g}{' *' if key in tried['at_edge'] else ''}"
        for key, value in tried["chosen"].items()
        if key.endswith(".lr")
    )


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


HEADS = ("peak", "clients' time", "operations", "up")


def _costs(row: Row) -> list[str]:
    return [
        f"{row['peak_bytes_above_model'] / MIB:.1f} MiB",
        f"{row['client_seconds']:.1f} s",
        f"{row['flops_per_client_round'] / 1e9:.0f} GFLOP",
        f"{row['bytes_up_per_client_round'] / 1024:.1f} KiB",
    ]


def _found(result: dict[str, Any]) -> dict[tuple[str, float], dict[str, Row]]:
    """Rows by method, by data set and alpha, in the order of the comparison."""
    return {
        (name, alpha): {row["method"]: row for row in result["sets"][name][f"{alpha:g}"]["rows"]}
        for name, alpha in COMPARED
        if f"{alpha:g}" in result["sets"].get(name, {})
    }


def _ranked(rows: Mapping[str, Row]) -> list[str]:
    return sorted(rows, key=lambda name: -rows[name]["accuracy_mean"])


def _label(row: Row) -> str:
    return f"{row['method']}{' + checkpointing' if row['checkpointing'] else ''}"


def _setting(result: dict[str, Any]) -> str:
    alphas = {alpha: own["setting"] for alpha, own in result["sets"][FIRST].items()}
    lengths = " and ".join(
        f"{own['schedule.rounds']} rounds of {_steps(own['client.steps'])} at alpha {alpha}"
        for alpha, own in alphas.items()
    )
    setting = next(iter(alphas.values()))
    seeds = len(result["sets"][FIRST][f"{TUNED:g}"]["rows"][0]["seeds"])
    return (
        f"MiniLM, rank 1: test accuracy in percent, mean and sample deviation of {seeds} seeds, after "
        f"{lengths}, with {setting['schedule.clients_per_round']} clients a round of {setting['data.clients']}, "
        f"batches of {setting['client.batch_size']}, data dealt by Dirichlet(alpha). Peak above the model; time of all "
        "clients, operations and bytes of one are those of a round."
    )


def _steps(count: int) -> str:
    return "1 local step" if count == 1 else f"{count} local steps"
