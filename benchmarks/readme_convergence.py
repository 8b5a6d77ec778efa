"""The tables of the convergence benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convergence_data import FIRST, SETS
from readme_layout import MIB, origin, spread, table

Row = Mapping[str, Any]
SOURCE = "benchmarks/convergence.py"


def main_methods(result: dict[str, Any]) -> str:
    """What the main methods reached on each data set, and what they cost on the first, the best there first."""
    found = _found(result)
    where = list(found)
    first = where[0]
    ranked = [name for name in _ranked(found[first]) if name in _main(result)]
    rows = [
        [
            _label(found[first][name]),
            *(spread(found[place][name]) for place in where),
            *_costs(found[first][name]),
        ]
        for name in ranked
    ]
    heads = ["", *(f"{SETS[name].title}, alpha {alpha}" for name, alpha in where), *HEADS]
    note = (
        f"{_setting(result)} Costs are those on {SETS[FIRST].title} at alpha {first[1]}. Several runs shared the "
        "machine, so times err by tens of percent."
    )
    return table(heads, rows) + f"\n\n{note} {origin(result, SOURCE)}"


def every_method(result: dict[str, Any]) -> str:
    """What each method reached on the first data set and what it cost, best first."""
    found = {alpha: own for (name, alpha), own in _found(result).items() if name == FIRST}
    first, *_ = found
    rows = [
        [
            _label(found[first][name]),
            *(spread(own.get(name)) for own in found.values()),
            *_costs(found[first][name]),
            f"{found[first][name]['bytes_down_per_client_round'] / 1024:.1f} KiB",
        ]
        for name in _ranked(found[first])
    ]
    heads = ["", *(f"alpha {alpha}" for alpha in found), *HEADS, "down"]
    return table(heads, rows) + f"\n\n{origin(result, SOURCE)}"


def costs(result: dict[str, Any]) -> str:
    """What the main methods spent until the target accuracy, by data set and alpha: rounds times what one takes."""
    rows = []
    for (name, alpha), own in _found(result).items():
        compared = result["sets"][name][alpha]
        clients, target = compared["setting"]["schedule.clients_per_round"], compared["views"]["target"]
        reached = {row["method"]: row for row in target["rows"]}
        for method in (method for method in _ranked(own) if method in _main(result)):
            rounds = reached[method]["rounds"]
            spent = {form: price * (rounds or 0) for form, price in _prices(own[method], clients).items()}
            rows.append([
                f"{SETS[name].title}, alpha {alpha}: {100 * target['target']:.1f} %",
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


def _found(result: dict[str, Any]) -> dict[tuple[str, str], dict[str, Row]]:
    """Rows by method, by data set and alpha."""
    return {
        (name, alpha): {row["method"]: row for row in own["rows"]}
        for name, alphas in result["sets"].items()
        for alpha, own in alphas.items()
    }


def _main(result: dict[str, Any]) -> set[str]:
    """Methods that were compared everywhere."""
    return set.intersection(*(set(own) for own in _found(result).values()))


def _ranked(rows: Mapping[str, Row]) -> list[str]:
    return sorted(rows, key=lambda name: -rows[name]["accuracy_mean"])


def _label(row: Row) -> str:
    return f"{row['method']}{' + checkpointing' if row['checkpointing'] else ''}"


def _setting(result: dict[str, Any]) -> str:
    alphas = {alpha: own["setting"] for alpha, own in result["sets"][FIRST].items()}
    lengths = " and ".join(
        f"{own['schedule.rounds']} rounds of {own['client.steps']} local steps at alpha {alpha}"
        for alpha, own in alphas.items()
    )
    setting = next(iter(alphas.values()))
    return (
        "MiniLM, rank 1: test accuracy in percent, mean and sample deviation of 3 seeds, after "
        f"{lengths}, with {setting['schedule.clients_per_round']} clients a round of {setting['data.clients']}, "
        f"batches of {setting['client.batch_size']}, data dealt by Dirichlet(alpha). Peak above the model; time of all "
        "clients, operations and bytes of one are those of a round."
    )
