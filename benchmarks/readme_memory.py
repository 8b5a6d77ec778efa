"""The tables of memory and time of a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from readme_layout import MIB, origin, percent, table

COLUMNS = {
    "inference": "inference",
    "spry": "**Spry**",
    "residual": "**residual guess**",
    "residual-2-blocks": "**its step of 2 blocks**",
    "residual-full": "**full, on a tape: the recipe**",
    "backprop+checkpointing": "backprop + checkpointing",
    "mesp": "the same, `A x` recomputed (MeSP)",
    "backprop": "backprop",
    "forward-ad": "torch forward AD",
}


def _mib(count: float) -> str:
    """A few MiB are told to a tenth."""
    return f"{count:.0f}" if count >= 20 else f"{count:.1f}"


Found = Mapping[str, dict[str, Any]]
"""Rows of one shape and size by their method."""


def _found(result: dict[str, Any]) -> Mapping[str, Found]:
    """The rows that the tables have, by shape and size in words."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in result["rows"]:
        plain = row["slice"] == "all" and row["directions"] == row.get("rank", 1) == 1
        if plain and row["head"] == "classification" and row["method"] in COLUMNS and not row["error"]:
            depth = f", {row['layers']} layers" if row["layers"] else ""
            where = f"{row['shape']}{depth}, {row['batch']} x {row['length']}"
            where += f", {row['micro_batch']} at a time" if row["micro_batch"] else ""
            found.setdefault(where, {})[row["method"]] = row
    return {where: own for where, own in found.items() if "inference" in own}


def _beside(result: dict[str, Any], ratio: Callable[[dict[str, Any], Found], float]) -> str:
    """A table of peaks, each with a ratio to inference; methods that were not measured have no column."""
    found = _found(result)
    methods = [method for method in COLUMNS if any(method in own for own in found.values())]

    def cell(row: dict[str, Any], own: Found) -> str:
        return f"{_mib(row['peak_bytes_above_model'] / MIB)} MiB, {ratio(row, own):.2f} x"

    rows = [
        [where, *(cell(own[method], own) if method in own else "" for method in methods)]
        for where, own in found.items()
    ]
    return table(["batch x tokens", *(COLUMNS[method] for method in methods)], rows)


def memory(result: dict[str, Any]) -> str:
    """Peak above the resident model and operations against inference, for each shape and size."""
    made = _beside(result, lambda row, own: row["operations"] / own["inference"]["operations"])
    note = (
        "Peak above the resident model, and operations of a step against stock inference: LoRA r=1 on query and value "
        "of all layers, float32, sdpa. No times: others used the machine, which changes neither peaks nor operations. "
        "Empty: not measured."
    )
    return f"{made}\n\n{note} {origin(result, 'benchmarks/memory.py --repeats 0')}"


def by_task(result: dict[str, Any]) -> str:
    """Peak above the resident model and operations against inference, for each task by its own loss."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in result["rows"]:
        found.setdefault(f"{row['task']} ({row['shape']})", {})[row["method"]] = row
    methods = [method for method in COLUMNS if any(method in own for own in found.values())]

    def cell(own: Found, method: str) -> str:
        if (row := own.get(method)) is None or row["error"]:
            return "–"
        times = row["operations"] / own["inference"]["operations"]
        return f"{_mib(row['peak_bytes_above_model'] / MIB)} MiB, {times:.2f} x"

    rows = [[task, *(cell(own, method) for method in methods)] for task, own in found.items()]
    row = result["rows"][0]
    note = (
        f"Peak above the resident model, and operations of a step against stock inference: batches of {row['batch']} x "
        f"{row['length']} tokens, {row['micro_batch']} rows at a time by every method, LoRA r={row['rank']} on query "
        "and value of all layers, float32, sdpa. Classification, regression, multi-label and multi-answer run the same "
        "layers: what their peaks differ by is what the measurement errs by."
    )
    made = table(["task", *(COLUMNS[method] for method in methods)], rows)
    return f"{made}\n\n{note} {origin(result, 'benchmarks/memory.py --groups tasks --repeats 0')}"


def times(result: dict[str, Any]) -> str:
    """Peak above the resident model and time against inference, for each shape and size."""
    made = _beside(result, lambda row, own: row["cpu_ratio"])
    threads = result["provenance"]["machine"]["threads"]
    note = (
        "Peak above the resident model, and processor time of a step against stock inference: LoRA r=1 on query and "
        f"value of all layers, float32, sdpa (torch forward AD: eager), {threads} thread{'s' * (threads > 1)}. "
        "Inference against itself shows the noise; empty: not measured."
    )
    return f"{made}\n\n{note} {origin(result, 'benchmarks/memory.py')}"


def recipe(result: dict[str, Any]) -> str:
    """Peak above the model and time against inference of the quickstart's methods, on larger models."""
    heads = {
        "spry": "**the recipe**",
        "head_only_block": "its last block alone",
        "fedavg": "FedAvg + checkpointing",
        "fedavg_whole_tape": "FedAvg",
    }
    cells: dict[str, dict[str, str]] = {}
    for row in result["rows"]:
        peak, own = row["peak_bytes_above_model"] / MIB, cells.setdefault(row["shape"], {})
        own[row["method"]] = f"{peak:.0f} MiB, {row['cpu_ratio']:.2f} x"
        if row["method"] in {"spry", "fedavg"}:
            own[f"{row['method']} inference"] = f"{row['inference_peak_bytes'] / MIB:.0f}"
    rows = [
        [
            shape.replace(":", ", ").replace("x", " x "),
            f"{own['fedavg inference']} and {own['spry inference']} MiB",
            *(own.get(method, "") for method in heads),
        ]
        for shape, own in cells.items()
    ]
    note = (
        "Peak above the resident model of a client's step, and its processor time against inference: rank 16, float32, "
        "1 thread. Inference is the stock model's: first with FedAvg's adapters, then with the recipe's, whose "
        "adapters of the last block's MLP make PEFT keep more. Empty: not measured."
    )
    heading = ["batch x tokens", "inference", *heads.values()]
    return table(heading, rows) + f"\n\n{note} {origin(result, 'benchmarks/recipe.py')}"


def targets(result: dict[str, Any]) -> str:
    """What was aimed at and what was measured: ratios by shape and rival, then the rest; misses are bold."""
    cells: dict[str, dict[str, str]] = {}
    limits: dict[str, float] = {}
    others = []
    for target in result["targets"]:
        where, _, name = target["target"].partition(": ")
        measured = f"{target['measured']:.3g}" if target["met"] else f"**{target['measured']:.3g}**"
        usual = name.startswith(("peak / ", "time / ")) and "," not in name and "logits" not in name
        if usual and limits.setdefault(name, target["limit"]) == target["limit"]:
            cells.setdefault(where, {})[name] = measured
        else:
            others.append([f"{where}: {name}", measured, f"{target['limit']:.3g}"])
    others += [
        [f"{row['shape']} {row['batch']}x{row['length']}: slope error, {row['dtype']}", f"{error:.2g}", ""]
        for row in result["rows"]
        if row["dtype"] in {"bfloat16", "float16"} and (error := row["slope_relative_error"]) is not None
    ]
    heads = ["", *(f"{name}, <= {limit:.3g}" for name, limit in limits.items())]
    grid = [[where, *(found.get(name, "") for name in limits)] for where, found in cells.items()]
    rest = table(["", "measured", "target"], others)
    grids = f"{table(heads, grid)}\n\n" if grid else ""
    return f"{grids}{rest}\n\n{origin(result, 'benchmarks/memory.py')}"


def split(result: dict[str, Any]) -> str:
    """What each client's step takes under either split."""
    rows = [
        [name, *(f"{row['time_ratio']:.2f}" for row in own), f"{result['time_ratio_mean'][name]:.2f}"]
        for name, own in result["rows"].items()
    ]
    clients = [f"client {row['client'] + 1}" for row in next(iter(result["rows"].values()))]
    note = f"A contiguous split saves {percent(result['saved'])} of the clients' time."
    return table(["", *clients, "mean"], rows) + f"\n\n{note} {origin(result, 'benchmarks/split.py')}"
