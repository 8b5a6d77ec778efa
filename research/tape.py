"""How large a tape should be: operations, peak and processor time of a step of MiniLM, by the rows on one tape.

    python -m research.tape [--repeats 9] [--out FILE]

LoRA of rank 16 on queries and values, batches of 8 texts of equal length. Each way is measured in turn, and times are
medians, as multiples of backpropagation with checkpointing.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from spry.core.keys import Key
from spry.core.params import Params
from spry.data.dataset import Dataset
from spry.estimators import tape
from spry.estimators.backprop import backprop
from spry.estimators.loss import Loss
from spry.estimators.residual import residual
from spry.experiment.atomic import write_json
from spry.experiment.provenance import provenance
from spry.measure.meter import tensor_peak
from spry.measure.operations import OperationCounter
from spry.models.adapters import Lora
from spry.tasks.classification import ClassificationTask

BATCH, LENGTHS, ROWS = 8, (20, 40, 128), (8, 4, 2, 1)
RIVAL = "backprop + checkpointing"


def on_tape(rows: int, loss: Loss, weights: Params) -> None:
    """Take a step with all blocks of so many rows on one tape."""
    chosen, tape.most_taped = tape.most_taped, lambda count, state, blocks, device: (rows, blocks)
    try:
        residual("full")(loss, weights, Key(0))
    finally:
        tape.most_taped = chosen


def measure(length: int, repeats: int) -> dict[str, Any]:
    """Measure every way at one length, as multiples of the rival's."""
    texts = ["word " * (length - 2)] * BATCH
    data = Dataset(name="words", texts=texts, labels=[0, 1] * (BATCH // 2), label_names=("a", "b"))
    task = ClassificationTask(
        "minilm", labels=data.label_names, key=Key(0), adapter=Lora(rank=16), exact="auto"
    )
    weights = task.init()
    loss = task.loss(task.encode(data, max_length=length).batch(range(BATCH)), Key(0))
    ways: dict[str, Callable[[], object]] = {
        RIVAL: partial(backprop(checkpoint=True), loss, weights, Key(0)),
        "backprop": partial(backprop(), loss, weights, Key(0)),
        **{f"full, {rows} rows a tape": partial(on_tape, rows, loss, weights) for rows in ROWS},
        "mlp": partial(residual("mlp"), loss, weights, Key(0)),
        "identity, 2 blocks": partial(residual("identity", 2), loss, weights, Key(0)),
    }
    found: dict[str, dict[str, float]] = {}
    for name, way in ways.items():
        way()
        gc.collect()
        with OperationCounter() as counter:
            way()
        found[name] = {"operations": counter.total, "peak_bytes": tensor_peak(way)}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            begun = time.process_time()
            way()
            spent[name].append(time.process_time() - begun)
    for name, seconds in spent.items():
        found[name]["cpu_seconds"] = median(seconds)
        print(
            length, name, {key: round(v / found[RIVAL][key], 2) for key, v in found[name].items()}, flush=True
        )
    return found


def main() -> None:
    """Measure all lengths."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path("research/results/tape.json"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    lengths = {str(length): measure(length, asked.repeats) for length in LENGTHS}
    write_json(asked.out, {"lengths": lengths, "repeats": asked.repeats, "provenance": provenance()})


if __name__ == "__main__":
    main()
