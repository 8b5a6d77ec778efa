"""The paper's two headline shapes in 4 bits: Llama2-7B and OPT-13B, allocated peak by category, seconds per step.

The paper reports 33.9 GB (backpropagation) against 6.2 GB (Spry) for Llama2-7B, and 76.5 against 10.8 for OPT-13B.
Weights are random: memory and time do not depend on them. Each row runs in a fresh process; a row that fails keeps its
error and the others go on; the file is written after every row.

    python benchmarks/gpu_headline.py [--out FOLDER] [--minutes 8]

Without a GPU the two shapes run with two layers and a small batch, and the file says that the GPU rows are open.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from spry.experiment.provenance import provenance
from spry.profile import Case, CaseResult, MeasuredMethod, measure_in_subprocess

GB = 1e9
HEADLINE = {  # shape: batch, length, the target of Spry's total peak, and what the paper reports, in GB
    "llama2-7b": {"batch": 8, "length": 64, "target": 4.4, "paper": {"backprop": 33.9, "spry": 6.2}},
    "opt-13b": {"batch": 4, "length": 384, "target": 7.9, "paper": {"backprop": 76.5, "spry": 10.8}},
}
METHODS: tuple[MeasuredMethod, ...] = ("spry", "inference", "backprop+checkpointing", "backprop", "fedmezo")


def cases(device: str) -> list[Case]:
    """List the rows, the ones that decide first.

    Args:
        device: ``cuda``, or ``cpu`` for the reduced shapes.

    Returns:
        One case for each shape and method, then Spry with K = 8 and on the last layer only.
    """
    if device == "cpu":
        size = {name: {"batch": 1, "length": 16, "layers": 2, "repeats": 1} for name in HEADLINE}
    else:
        size = {name: {"batch": s["batch"], "length": s["length"]} for name, s in HEADLINE.items()}
    common = {"device": device, "dtype": "bfloat16", "quantization": "nf4", "seconds": 10.0}
    listed = [Case(model=name, method=m, **size[name], **common) for m in METHODS for name in HEADLINE]
    for extra in ({"slice": "last"}, {"directions": 8}):
        listed += [Case(model=name, method="spry", **size[name], **common, **extra) for name in HEADLINE]
    return listed


def record(row: CaseResult) -> dict[str, object]:
    """Add to a row the peak by category and whether the target was met.

    Args:
        row: A measurement.

    Returns:
        Plain values; sizes under ``gb`` in 10^9 bytes.
    """
    record = row.to_json()
    headline = HEADLINE[row.case.model]
    record["paper_gb"] = headline["paper"].get(row.case.method)
    if row.total_peak_bytes is None or row.peak_bytes_above_model is None:
        return record
    categories = {name: size / GB for name, size in row.resident_bytes.items()}
    categories["step"] = row.peak_bytes_above_model / GB
    categories["libraries"] = row.total_peak_bytes / GB - sum(categories.values())
    record["gb"] = {"total": row.total_peak_bytes / GB, **categories}
    if row.case.method == "spry" and row.case.device != "cpu":
        record |= {"target_gb": headline["target"], "met": row.total_peak_bytes / GB <= headline["target"]}
    return record


def show(record: dict) -> str:
    """Render a record as one line of the table.

    Args:
        record: From ``record``.

    Returns:
        The line.
    """
    label = record["method"] + ("" if record["directions"] == 1 else f" K={record['directions']}")
    label += "" if record["slice"] == "all" else " last layer"
    line = f"{record['shape']:<10} {record['batch']}x{record['length']:<4} {label:<23}"
    if record["error"]:
        return line + " FAILED: " + record["error"].splitlines()[-1][:160]
    sizes = record["gb"]
    parts = " ".join(
        f"{name} {size:.3f}" for name, size in sizes.items() if name != "total" and abs(size) >= 5e-4
    )
    verdict = {True: "  target met", False: "  TARGET MISSED"}.get(record.get("met"), "")
    error = (
        ""
        if record["slope_relative_error"] is None
        else f"  slope error {record['slope_relative_error']:.1e}"
    )
    time_ = f"{record['step_seconds']:.3f} s = {record['time_ratio']:.2f} x inference"
    return f"{line} {sizes['total']:7.3f} GB  {time_}  ({parts}){error}{verdict}"


def main() -> None:
    """Measure all rows and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--minutes", type=float, default=8.0, help="no row is begun after this time")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / ("gpu_headline.json" if device == "cuda" else "gpu_headline_reduced.json")
    result = {
        **provenance(),
        "device": device,
        "gpu_rows": "measured" if device == "cuda" else "open",
        "rows": [],
    }
    begun = time.perf_counter()
    for case in cases(device):
        left = options.minutes * 60 - (time.perf_counter() - begun)
        if left < 10:
            result["skipped"] = result.get("skipped", 0) + 1
            continue
        begun_row = time.perf_counter()
        row = record(measure_in_subprocess(case, timeout=left))
        row["process_seconds"] = round(time.perf_counter() - begun_row, 1)
        result["rows"].append(row)
        file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf8")
        print(show(row), flush=True)
    print(
        f"{file}: {len(result['rows'])} rows in {time.perf_counter() - begun:.0f} s on {device}",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
