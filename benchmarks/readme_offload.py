"""The table of models that are larger than the memory they may take."""

from __future__ import annotations

from typing import Any

from readme_layout import MIB, origin, table


def offload(result: dict[str, Any]) -> str:
    """What a step costs whose weights are on the disk; of each method the last step, which began as it will go on."""
    rows = [
        [
            row["method"],
            f"{row['anonymous_bytes'] / MIB:.0f} MiB",
            f"{row['resident_bytes'] / MIB:.0f} MiB",
            f"{row['disk_bytes'][-1] / 2**30:.2f} GiB",
            f"{row['step_seconds'][-1]:.0f} s",
            f"{row['cpu_seconds'][-1]:.0f} s",
        ]
        for row in result["rows"]
    ]
    heads = [
        "",
        "peak above the page cache",
        "peak, mapped pages included",
        "read from the disk, a step",
        "a step",
        "of it the processor",
    ]
    given, weights = result["settings"], result["rows"][0]["weight_bytes"]
    note = (
        f"Llama2-7B's shape, {given['layers']} blocks, random weights in {given['quantization']}: files of "
        f"{weights / 2**30:.2f} GiB. LoRA r=1 on query and value, bfloat16, one text of at most {given['tokens']} "
        f"words, {given['threads']} thread. Memory is of the whole process, Python and PyTorch included. The machine "
        "was shared with other jobs, which slows the wall time more than the processor's."
    )
    return table(heads, rows) + f"\n\n{note} {origin(result, 'benchmarks/offload.py')}"
