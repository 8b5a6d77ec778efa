"""Peak memory and time of a step, ours against its rivals, and which of the project's targets are met.

LoRA r=1 on query and value of all layers, float32 on the CPU, stock attention (sdpa), no dropout, the same batch for
every method. Each row is measured in a fresh process; steps alternate with inference, and ratios of times are medians
of neighbours' ratios. Run it with OMP_NUM_THREADS=1: processor time, by which the targets are judged, then holds on a
busy machine too. Rows are merged into the file, so that the table can be taken in parts; each row says when and on
which commit it was taken.

    python benchmarks/memory.py [--quick] [--shapes A,B] [--sizes 8x128,1x2048] [--groups table,small,slices,...]
                                [--methods spry] [--layers 6] [--repeats 3] [--out FILE]

Where others use the machine, ``--repeats 0`` takes peaks and operations, which they do not change, and no times.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from spry.experiment.provenance import provenance
from spry.profile import Case, MeasuredMethod, measure_in_subprocess
from spry.tasks.kinds import TASKS

RESULTS = Path(__file__).parent / "results" / "memory.json"
SHAPES = ("bert-base", "bert-large", "llama-1k")
SIZES = ("8x128", "8x512", "1x2048")
METHODS: tuple[MeasuredMethod, ...] = (
    "inference",
    "spry",
    "residual",
    "residual-2-blocks",
    "residual-full",
    "backprop+checkpointing",
    "mesp",
    "backprop",
    "forward-ad",
)
"""What the tables compare, in their order: a further method needs a line here and its step in ``profile/steps.py``."""
MICRO_BATCHES = (1, 2)
K = 8
MEMORY = {"inference": 1.0, "backprop+checkpointing": 1 / 3, "backprop": 1 / 10, "forward-ad": 1 / 3}
GUESS, WORK = 1 / 2, 0.67
GUESSES = {"residual": "residual guess", "residual-full": "full, on a tape"}
"""What targets call a method."""
SMALL = 1.05
"""Of inference's peak, at the same micro-batch."""
TIME = {"inference": 2.1, "backprop+checkpointing": 0.75, "backprop": 1.05}
ALONE = {"time_ratio": 1.0, "cpu_ratio": 1.0}
"""Inference against itself."""
Record = dict[str, Any]
ADDED: Record = {"rank": 1, "targets": [], "quantization": None, "task": None}
"""What rows that were taken before a setting existed had."""


def table(shapes: Iterable[str], sizes: Iterable[str]) -> list[Case]:
    """List every method on every shape and size."""
    pairs = [(shape, *map(int, size.split("x"))) for shape in shapes for size in sizes]
    return [Case(model=m, batch=b, length=s, method=method) for m, b, s in pairs for method in METHODS]


def small(shapes: Iterable[str], sizes: Iterable[str]) -> list[Case]:
    """List every method at the micro-batches that any method may take, with the same gradient; and rank 16."""
    cases = [
        replace(case, micro_batch=rows)
        for rows in MICRO_BATCHES
        for case in table(shapes, sizes)
        if case.batch > rows and case.method != "forward-ad"
    ]
    lora = ("backprop+checkpointing", "mesp")
    return cases + [replace(case, rank=16) for case in cases if case.method in lora]


def slices(shapes: Iterable[str], sizes: Iterable[str]) -> list[Case]:
    """List the last layer's slice, ours and backpropagated, and K directions, at the first size."""
    b, s = map(int, next(iter(sizes)).split("x"))
    ours = [Case(model=m, batch=b, length=s, method="spry") for m in shapes]
    last = [
        replace(c, method=m, slice="last")
        for c in ours
        for m in ("spry", "backprop", "backprop+checkpointing")
    ]
    return last + [replace(case, directions=K) for case in ours]


def depth() -> list[Case]:
    """List a deep and a shallow model of one width."""
    ours: tuple[MeasuredMethod, ...] = ("spry", "residual")
    return [
        Case(model="bert-large", method=method, batch=8, length=128, layers=n, repeats=1)
        for method in ours
        for n in (6, 24)
    ]


def language() -> list[Case]:
    """List a language model with 50,257 words, whose logits would outweigh all else."""
    methods: tuple[MeasuredMethod, ...] = ("inference", "spry", "backprop+checkpointing", "backprop")
    return [Case(model="gpt2", method=m, batch=8, length=128, head="causal-lm", repeats=3) for m in methods]


def tasks() -> list[Case]:
    """List each task by its own loss, four rows at a time by every method."""
    methods: tuple[MeasuredMethod, ...] = ("inference", "spry", "residual", "backprop+checkpointing")
    cases = [
        Case(model="minilm", task=task, method=m, batch=8, length=128, micro_batch=4)
        for task in TASKS
        for m in methods
    ]
    return [replace(c, model="llama-1k", layers=2) if c.task == "causal-lm" else c for c in cases]


def numerics(shapes: Iterable[str]) -> list[Case]:
    """List every dtype on two layers of each shape."""
    small = [Case(model=m, method="spry", batch=4, length=64, layers=2, repeats=1) for m in shapes]
    return [
        replace(case, dtype=dtype)
        for case in small
        for dtype in ("float64", "float32", "bfloat16", "float16")
    ]


def identity(record: Record) -> str:
    """Name what a row measured, whatever came out."""
    names = [name for name in Case.__dataclass_fields__ if name not in {"model", "repeats", "seconds"}]
    own = {**ADDED, **record}
    return json.dumps([own["shape"], *(own[name] for name in names)])


def targets(records: list[Record]) -> list[Record]:
    """Compare the rows with the project's targets.

    Args:
        records: Rows, in any order.

    Returns:
        For each target that the rows can tell about: its name, what was measured, the limit, and whether it is met.
    """
    rows = {identity(record): record for record in records if not record["error"]}

    def find(record: Record, **changes: Any) -> Record | None:
        return rows.get(identity({**record, **changes}))

    found: list[Record] = []
    for guess in (row for row in rows.values() if row["method"] in GUESSES):
        found += _guess_targets(guess, find)
    for ours in (row for row in rows.values() if row["method"] == "spry"):
        where = _where(ours)
        if ours["micro_batch"]:
            found += _small_targets(f"{where}, {ours['micro_batch']} at a time", ours, find)
            continue
        whole = ours["layers"] is None or find(ours, method="inference")
        if ours["head"] == "classification" and whole:
            depth = f", {ours['layers']} layers" if ours["layers"] else ""
            found += _table_targets(where + depth, ours, find)
        elif ours["layers"] == 24 and (shallow := find(ours, layers=6)):
            ratio = ours["peak_bytes_above_model"] / shallow["peak_bytes_above_model"]
            found.append(_target(f"{where}: peak of 24 layers / of 6", ratio, 1.05))
        elif ours["head"] == "causal-lm":
            logits = ours["batch"] * ours["length"] * 50257 * 4
            found.append(
                _target(f"{where}: peak / logits alone", ours["peak_bytes_above_model"] / logits, 1.0)
            )
        elif ours["layers"] == 2 and ours["dtype"] in {"float64", "float32"}:
            limit = 1e-10 if ours["dtype"] == "float64" else 1e-4
            found.append(
                _target(f"{where}: slope error, {ours['dtype']}", ours["slope_relative_error"], limit)
            )
    return found


def _where(record: Record) -> str:
    task = f" {record['task']}" if record.get("task") else ""
    return f"{record['shape']}{task} {record['batch']}x{record['length']}"


def _guess_targets(guess: Record, find: Any) -> list[Record]:
    what = _where(guess)
    what += f", {guess['micro_batch']} at a time" if guess["micro_batch"] else ""
    what += f": {GUESSES[guess['method']]}"
    found: list[Record] = []
    if rival := find(guess, method="backprop+checkpointing"):
        ratio = guess["peak_bytes_above_model"] / rival["peak_bytes_above_model"]
        found.append(_target(f"{what}, peak / backprop+checkpointing", ratio, GUESS))
        if guess["operations"] and rival["operations"]:
            ratio = guess["operations"] / rival["operations"]
            found.append(_target(f"{what}, operations / backprop+checkpointing", ratio, WORK))
    if guess["layers"] == 24 and (shallow := find(guess, layers=6)):
        ratio = guess["peak_bytes_above_model"] / shallow["peak_bytes_above_model"]
        found.append(_target(f"{what}, peak of 24 layers / of 6", ratio, 1.05))
    return found


def _small_targets(where: str, ours: Record, find: Any) -> list[Record]:
    stock = find(ours, method="inference")
    peaks = [row["peak_bytes_above_model"] for row in (ours, stock) if row]
    return [_target(f"{where}: peak / inference", peaks[0] / peaks[1], SMALL)] if stock else []


def _table_targets(where: str, ours: Record, find: Any) -> list[Record]:
    if ours["slice"] == "last":
        return _time_target(f"{where}: time / inference, last layer", ours, ALONE, 1.15)
    if ours["directions"] > 1:
        count = ours["directions"]
        return _time_target(f"{where}: time / inference, K={count}", ours, ALONE, 1 + 1.2 * count)
    found = [_target(f"{where}: slope error, float32", ours["slope_relative_error"], 1e-4)]
    rivals = ["inference"] if ours["layers"] else list(MEMORY)  # with few layers there is little tape to save
    for name, limit in MEMORY.items():
        if name in rivals and (rival := find(ours, method=name)):
            ratio = ours["peak_bytes_above_model"] / rival["peak_bytes_above_model"]
            found.append(_target(f"{where}: peak / {name}", ratio, limit))
    for name, limit in TIME.items():
        if name in rivals and (rival := find(ours, method=name)):
            base = ALONE if name == "inference" else rival
            found += _time_target(f"{where}: time / {name}", ours, base, limit)
    return found


def _time_target(name: str, ours: Record, rival: Record, limit: float) -> list[Record]:
    """Both sides were timed against inference in their own process; the ratio of these ratios is ours / rival.

    What counts is processor time, which others on the machine disturb least. Rows without times decide nothing.
    """
    if ours["time_ratio"] is None or rival["time_ratio"] is None:
        return []
    wall = ours["time_ratio"] / rival["time_ratio"]
    return [{**_target(name, ours["cpu_ratio"] / rival["cpu_ratio"], limit), "wall": wall}]


def _target(name: str, measured: float, limit: float) -> Record:
    return {"target": name, "measured": measured, "limit": limit, "met": measured <= limit}


USUAL = {
    "task": None,
    "layers": None,
    "micro_batch": None,
    "rank": 1,
    "slice": "all",
    "directions": 1,
    "dtype": "float32",
}


def show(record: Record) -> str:
    """Render a row as a line."""
    extra = "".join(
        f" {name}={record[name]}" for name, usual in USUAL.items() if record.get(name, usual) != usual
    )
    line = f"{record['shape']:<10} {record['batch']}x{record['length']:<5}{record['method'] + extra:<34}"
    if record["error"]:
        return line + " FAILED: " + record["error"].splitlines()[-1][:120]
    error = record["slope_relative_error"]
    predicted = (record["predicted_bytes"] or math.nan) / 2**20
    return (
        f"{line} {record['peak_bytes_above_model'] / 2**20:8.1f} MiB (predicted {predicted:7.1f})"
        f" {(record.get('operations') or math.nan) / 1e9:8.1f} GFLOP{_times(record)}"
        + (f"  error {error:.0e}" if error is not None else "")
    )


def _times(record: Record) -> str:
    if not record["timed"]:
        return ""
    return (
        f" {record['step_seconds']:8.3f} s = {record['time_ratio']:5.2f} x inference"
        f" (cpu {record['cpu_ratio']:.2f}, {record['timed']} timed)"
    )


def main() -> None:
    """Measure what was asked for, merge it into the file, and print rows and targets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="bert-base at 8x128 alone, few repeats, two minutes"
    )
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--groups", default="table,small,slices,depth,language,numerics")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--layers", type=int, help="depth of the table's models, if not the shape's own")
    parser.add_argument(
        "--repeats", type=int, default=5, help="most timed steps; one if a step is slow; 0: no times"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    shapes, sizes = options.shapes.split(","), options.sizes.split(",")
    deep = {"layers": options.layers}
    groups = {
        "table": lambda: [replace(c, **deep) for c in table(shapes, sizes)],
        "small": lambda: [replace(c, **deep) for c in small(shapes, sizes)],
        "slices": lambda: slices(shapes, sizes),
    }
    groups |= {"depth": depth, "language": language, "tasks": tasks, "numerics": lambda: numerics(shapes)}
    methods = options.methods.split(",")
    cases = [
        case for group in options.groups.split(",") for case in groups[group]() if case.method in methods
    ]
    if options.quick:
        cases = [replace(c, repeats=3) for c in table(["bert-base"], ["8x128"])]
    cases = [
        replace(c, repeats=min(c.repeats, options.repeats), seconds=12.0 * options.repeats) for c in cases
    ]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(options.out.read_text(encoding="utf8"))["rows"] if options.out.exists() else []
    rows = {identity(record): record for record in known}
    here = provenance()
    for case in cases:
        record = {
            **measure_in_subprocess(case).to_json(),
            "date": provenance()["date"],
            "commit": here["commit"],
        }
        rows[identity(record)] = record
        found = targets(list(rows.values()))
        result = {"provenance": here, "targets": found, "rows": list(rows.values())}
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf8")
        print(show(record), flush=True)
    for target in targets(list(rows.values())):
        verdict = "met   " if target["met"] else "MISSED"
        print(
            f"{verdict} {target['target']:<60} {target['measured']:10.3g} <= {target['limit']:.3g}"
            + (f"  (by the clock {target['wall']:.3g})" if "wall" in target else "")
        )


if __name__ == "__main__":
    main()
