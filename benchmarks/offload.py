"""Training steps of a model that is larger than the memory it may take: its weights stay on the disk.

    python benchmarks/offload.py --folder FOLDER --out benchmarks/results/offload.json

Llama2-7B's shape in 4 bits, LoRA r=1 on query and value, one text of 32 tokens. Each method runs in a process of its
own. Blocks leave the system's cache when they are done, so that every read is one of the disk, as it is where there is
no room for the model: what was read is the kernel's own count.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from offload_checkpoint import SHAPE, write_checkpoint

from spry.core.keys import Key
from spry.core.params import Params
from spry.estimators.backprop import backprop
from spry.estimators.estimate import Estimator
from spry.estimators.projected import forward_gradient
from spry.estimators.residual import residual
from spry.experiment.atomic import write_json
from spry.experiment.provenance import provenance
from spry.measure.meter import release_promptly
from spry.models.adapters import Lora
from spry.tasks.classification import ClassificationTask

METHODS: dict[str, Callable[[], Estimator]] = {
    "spry": forward_gradient,
    "backprop+checkpointing": lambda: backprop(checkpoint=True),
    "residual": residual,
}
TOKENS, RATE = 32, 1e-3


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One method's steps.

    Args:
        anonymous_bytes: Highest memory of the process that is no page of a file, sampled every 10 ms.
        resident_bytes: Highest memory of the process, mapped pages of files included, by the kernel's mark.
        step_seconds: Wall time of each step.
        cpu_seconds: Of the processor in each step, which others on the machine disturb less.
        disk_bytes: Read from the disk in each step, by the kernel's count.
        losses: Before each step.
    """

    method: str
    weight_bytes: int
    anonymous_bytes: int
    resident_bytes: int
    step_seconds: list[float]
    cpu_seconds: list[float]
    disk_bytes: list[int]
    losses: list[float]


def measure(method: str, folder: Path, steps: int) -> Measured:
    """Train the adapters by one method; its exact weights, such as the head, are trained along."""
    release_promptly()
    task = ClassificationTask(
        str(folder), labels=2, key=Key(0), adapter=Lora(rank=1), dtype=torch.bfloat16, offload="disk"
    )
    assert task.backbone.stream is not None
    task.backbone.stream.evict()
    loss = task.loss(task.probe(Key(1), examples=1, tokens=TOKENS), Key(0))
    params, estimator = task.init(), METHODS[method]()
    found: list[tuple[float, float, int, float]] = []
    with _Anonymous() as memory:
        for step in range(steps):
            begun, worked, read = time.perf_counter(), time.process_time(), _read_bytes()
            estimate = estimator(loss, params, Key(step))
            params = _stepped(params, estimate.gradient)
            task.backbone.stream.release()
            times = time.perf_counter() - begun, time.process_time() - worked
            found.append((*times, _read_bytes() - read, estimate.value))
    seconds, cpu, disk, losses = (list(column) for column in zip(*found, strict=True))
    return Measured(
        method=method,
        weight_bytes=sum(file.stat().st_size for file in folder.glob("*.safetensors")),
        anonymous_bytes=memory.peak,
        resident_bytes=_status("VmHWM"),
        step_seconds=seconds,
        cpu_seconds=cpu,
        disk_bytes=disk,
        losses=losses,
    )


def _stepped(params: Params, gradient: Params) -> Params:
    """One step of gradient descent."""
    return {name: w - RATE * gradient[name] if name in gradient else w for name, w in params.items()}


class _Anonymous:
    """The highest anonymous memory of this process while the context is open."""

    def __init__(self) -> None:
        self.peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._done.wait(0.01):
            self.peak = max(self.peak, _status("RssAnon"))

    def __enter__(self) -> _Anonymous:
        self.peak = _status("RssAnon")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def _status(name: str) -> int:
    told = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(rf"^{name}:\s+(\d+) kB$", told, re.MULTILINE)
    assert found is not None, name
    return int(found[1]) * 1024


def _read_bytes() -> int:
    found = re.search(r"^read_bytes: (\d+)$", Path("/proc/self/io").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return int(found[1])


def _in_own_process(method: str, folder: Path, steps: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--folder", str(folder), "--method", method, "--steps", str(steps)]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(told.splitlines()[-1])


def main() -> None:
    """Write the checkpoint unless it is there, and measure every method, or one in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--folder", type=Path, required=True, help="Where the checkpoint is, or is written: 3.6 GB."
    )
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--method", choices=METHODS)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if not (given.folder / "model.safetensors.index.json").is_file():
        write_checkpoint(given.folder, given.layers)
        os.sync()  # only what is written can leave the system's cache
    if given.method:
        print(json.dumps(asdict(measure(given.method, given.folder, given.steps))))
        return
    rows = []
    for method in METHODS:
        rows.append(_in_own_process(method, given.folder, given.steps))
        print(json.dumps(rows[-1]), flush=True)
        if given.out:
            settings = {"shape": SHAPE, "layers": given.layers, "tokens": TOKENS, "quantization": "nf4"}
            settings |= {"threads": torch.get_num_threads()}
            write_json(given.out, {"provenance": provenance(), "settings": settings, "rows": rows})


if __name__ == "__main__":
    main()
