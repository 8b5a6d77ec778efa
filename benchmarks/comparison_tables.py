"""The tables of the comparison's page."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.comparison_cells import RIVAL, Cell, crossing, gap, spent, within
from benchmarks.comparison_targets import target_of
from benchmarks.comparison_words import DASH, few, number, ratio, size, told
from benchmarks.readme_layout import MIB, table

BUDGETS = {10_000: "10 kB", 100_000: "100 kB", 1_000_000: "1 MB"}
"""Bytes that a client may send in a run."""
SPENT = {
    "operations": ("operations", 1e12, "TFLOP"),
    "cpu_seconds": ("processor time", 1.0, "s"),
    "bytes": ("bytes", 1e6, "MB"),
}
GAIN = 0.9
"""A second target: so much of what the rival gains over the head alone."""


def main_table(own: Mapping[str, Cell]) -> str:
    """What each row reached and what it cost beside the rival, with what the rival's costs are."""
    rival = own.get(RIVAL)
    rows = [_head_row(own), *(_main_row(cell, rival) for cell in own.values())]
    heads = [
        "",
        "before round 1",
        "at the end",
        "seeds",
        "rounds",
        "- FedAvg",
        "operations",
        "processor time",
    ]
    heads += ["peak", "sent", "received"]
    note = f"\n\n{_absolute(rival)}" if rival else "\n\nFedAvg + checkpointing has not been run here."
    return table(heads, rows) + note


def _head_row(own: Mapping[str, Cell]) -> list[str]:
    return ["head alone", scores(own, None), scores(own, None), str(len(_starts(own))), "0", *[DASH] * 6]


def _main_row(cell: Cell, rival: Cell | None) -> list[str]:
    apart = None if rival is None or rival is cell else gap(cell, rival)
    shares = [
        ratio(cell.mean(cost), rival.mean(cost)) if rival else DASH
        for cost in ("operations_per_client_round", "client_cpu_seconds", "peak_bytes_above_model")
    ]
    return [
        cell.title,
        told(cell.points[0][1]),
        told(cell.points[-1][1]),
        str(len(cell.seeds)),
        str(cell.rounds[-1]),
        DASH if apart is None else told(apart[1], signed=True),
        *shares,
        *(_of_run(cell, way) for way in ("up", "down")),
    ]


def _absolute(rival: Cell) -> str:
    operations, seconds, peak = (
        rival.mean(cost)
        for cost in ("operations_per_client_round", "client_cpu_seconds", "peak_bytes_above_model")
    )
    return (
        f"FedAvg + checkpointing takes {number(operations, 1e9, 'GFLOP')} a client and round, "
        f"{number(seconds, 1.0, 's')} of all clients' processors over the run, and {number(peak, MIB, 'MiB')} above "
        "the model."
    )


def to_target(own: Mapping[str, Cell]) -> str:
    """What each row spends until 97 % of the rival's best, and until most of the rival's gain over the head."""
    target = target_of(own)
    if target is None:
        return "Costs to a target need FedAvg + checkpointing."
    start = own[RIVAL].curve[0][1]
    gained = start + GAIN * (own[RIVAL].best - start)
    parts = [_costs_to(own, target, "97 % of FedAvg's best accuracy"), "\n\n"]
    if own[RIVAL].best > start:
        parts.append(_costs_to(own, gained, f"{100 * GAIN:.0f} % of what FedAvg gains over the head alone"))
    else:
        parts.append("FedAvg gains nothing over the head alone.")
    return "".join(parts)


def _costs_to(own: Mapping[str, Cell], target: float, said: str) -> str:
    name = f"**Cost to {said}: {100 * target:.1f} %.**"
    if own[RIVAL].curve[0][1] >= target:
        return f"{name} The head alone is there already."
    theirs = crossing(own[RIVAL].curve, target)
    prices = spent(own[RIVAL], theirs) if theirs is not None else {}
    rows = []
    for cell in own.values():
        rounds = crossing(cell.curve, target)
        if rounds is None:
            rows.append([cell.title, f"not reached, best {100 * cell.best:.1f}", *[DASH] * 6])
            continue
        taken, line = spent(cell, rounds), [cell.title, few(rounds)]
        for cost, (_, unit, word) in SPENT.items():
            line += [number(taken[cost], unit, word), ratio(taken[cost], prices.get(cost))]
        rows.append(line)
    heads = ["", "rounds"]
    for cost, _, _ in SPENT.values():
        heads += [cost, "/ FedAvg's"]
    sums = max(cell.of_head("operations") for cell in own.values())
    note = f"\n\nThe head's sums are {number(sums, 1e12, 'TFLOP')} of each row's operations." if sums else ""
    return f"{name}\n\n{table(heads, rows)}{note}"


def budgets(own: Mapping[str, Cell]) -> str:
    """What each row reaches until a client's uploads have taken so many bytes."""
    rows = []
    for cell in own.values():
        found = [within(cell, budget) for budget in BUDGETS]
        rows.append([cell.title, *(DASH if f is None else f"{100 * f[1]:.1f} ({few(f[0])})" for f in found)])
    heads = ["**Within bytes**", *(f"{said} up" for said in BUDGETS.values())]
    sums = [
        cell.of_head("bytes_up") / cell.of_head("clients") for cell in own.values() if cell.of_head("clients")
    ]
    note = (
        f"Budgets are without the head's sums, which took a client {max(sums) / 1000:.1f} kB, once."
        if sums
        else "Budgets are without the head's sums. The runs do not say what these took."
    )
    return f"{table(heads, rows)}\n\n{note}"


def scores(own: Mapping[str, Cell], row: str | None) -> str:
    """The accuracy of a row at the end; of the head alone without a row; a dash if it was not run."""
    if row is None:
        starts = _starts(own)
        return told(list(starts.values())) if starts else DASH
    return told(own[row].points[-1][1]) if row in own else DASH


def _starts(own: Mapping[str, Cell]) -> dict[int, float]:
    """The head's accuracy by seed: that of the first row that has the seed."""
    found: dict[int, float] = {}
    for cell in own.values():
        for run in cell.runs:
            found.setdefault(run["seed"], run["curve"][0][1])
    return found


def costs(cell: Cell) -> list[str]:
    """Peak, operations and uploads of a client and round."""
    return [
        number(cell.mean("peak_bytes_above_model"), MIB, "MiB"),
        number(cell.mean("operations_per_client_round"), 1e9, "GFLOP"),
        size(cell.mean("bytes_up_per_client_round")),
    ]


def _of_run(cell: Cell, way: str) -> str:
    each, rounds = cell.mean(f"bytes_{way}_per_client_round"), cell.mean("rounds")
    return DASH if each is None or rounds is None else size(each * rounds)
