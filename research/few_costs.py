"""What a client of a few dimensions computes and sends: operations in inferences, bytes as the codec writes them.

    python research/few_costs.py

MiniLM, 8 texts of about 24 tokens, LoRA-XS of rank 4 in the six maps of the last block (96 numbers), the head fixed.
Adds ``costs`` to research/results/few_dimensions.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from few_problem import MAPS
from few_training import Trial
from few_wire import message_bytes

from spry.contrib.lora_xs import LoraXs
from spry.core.keys import Key
from spry.estimators.backprop import backprop
from spry.estimators.projected import SlopeSpec, projected
from spry.estimators.slopes import central_difference, forward_mode
from spry.experiment.atomic import write_json
from spry.measure.operations import OperationCounter
from spry.tasks.classification import ClassificationTask

RESULTS = Path("research/results/few_dimensions.json")
STEPS, EXAMPLES, TOKENS = 4, 8, 24


def operations() -> dict[str, float]:
    """Operations of a step of 8 examples, in inferences of the same texts."""
    adapter = LoraXs(rank=4, alpha=4.0, targets=tuple(f"layer.5.{name}" for name in MAPS.values()))
    task = ClassificationTask("minilm", labels=2, adapter=adapter)
    batch, weights = task.probe(Key(0), examples=EXAMPLES, tokens=TOKENS), task.init()
    own = {name: weights[name] for unit in task.units if not unit.head for name in unit.names}
    loss = task.loss(batch, Key(0), {name: w for name, w in weights.items() if name not in own})
    with torch.inference_mode():
        once = counted(lambda: task.logits(weights, batch))
    estimators = {
        **{f"forward mode, K = {k}": projected(forward_mode, SlopeSpec(), k) for k in (1, 16, 64)},
        "central differences, K = 1": projected(central_difference(), SlopeSpec(), 1),
        "backpropagation + checkpointing": backprop(True),
    }
    return {name: counted(lambda e=e: e(loss, own, Key(1))) / once for name, e in estimators.items()}


def counted(step: Callable[[], Any]) -> int:
    with OperationCounter() as counter:
        step()
    return counter.total


def main() -> None:
    """Count and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    sent = {f"K = {k}": message_bytes(Trial(basis="weights", slopes=k), len(MAPS), STEPS) for k in (1, 16)}
    costs = {"operations": operations(), "bytes": sent}
    results = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {"rows": []}
    write_json(out, {**results, "costs": costs})


if __name__ == "__main__":
    main()
