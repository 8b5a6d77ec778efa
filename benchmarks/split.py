"""What a contiguous split saves over a cyclic one: time and memory of each client's step.

Four clients share bert-base's LoRA units. Whoever owns only upper units runs the layers below as plain inference, so
the time depends on the lowest unit of a slice: it is high for most clients where slices are runs of neighbours, and low
for all where layers are dealt one by one. Steps of all slices alternate with inference.

    python benchmarks/split.py [--out benchmarks/results/split.json]
"""

from __future__ import annotations

import argparse
import re
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

from spry.core.units import Unit
from spry.experiment.atomic import write_json
from spry.experiment.provenance import provenance
from spry.federated.split import contiguous, cyclic
from spry.measure.meter import release_lazily, tensor_peak
from spry.profile.case import Case
from spry.profile.measure import build_subject
from spry.profile.steps import STEP_BY_METHOD, Subject, inference_step

SPLITS = {"cyclic": cyclic, "contiguous": contiguous}
CLIENTS = range(4)
REPEATS = 3
CASE = Case(model="bert-base", method="spry", batch=8, length=128)


def layers(subject: Subject) -> list[Unit]:
    """Make a unit of each layer's adapters; the head is a unit of its own."""
    names: dict[str, list[str]] = defaultdict(list)
    for name in subject.params:
        found = re.search(r"\.(\d+)\.", name)
        names[found[1] if found else "head"].append(name)
    return [Unit(name=name, names=tuple(own), head=name == "head") for name, own in names.items()]


def client(subject: Subject, own: tuple[Unit, ...]) -> Subject:
    """Keep a client's slice."""
    names = {name for unit in own for name in unit.names}
    directions = [{name: v for name, v in d.items() if name in names} for d in subject.directions]
    params = {name: w for name, w in subject.params.items() if name in names}
    return replace(subject, params=params, directions=directions)


def measure(subjects: Mapping[str, Mapping[int, Subject]], whole: Subject) -> dict[str, list[dict[str, Any]]]:
    """Time every client's step against inference, in turn, and count its peak."""
    base = partial(inference_step, whole)
    ratios: dict[tuple[str, int], list[float]] = defaultdict(list)
    for repeat in range(1 + REPEATS):  # the first warms up
        unit = _seconds(base)
        for split, clients in subjects.items():
            for number, subject in clients.items():
                taken = _seconds(partial(STEP_BY_METHOD["spry"], subject)) / unit
                if repeat:
                    ratios[split, number].append(taken)
    return {
        split: [
            {
                "client": number,
                "time_ratio": median(ratios[split, number]),
                "peak_bytes_above_model": tensor_peak(partial(STEP_BY_METHOD["spry"], subject)),
            }
            for number, subject in clients.items()
        ]
        for split, clients in subjects.items()
    }


def _seconds(step: Any) -> float:
    """Processor time: less disturbed by others on the machine."""
    begun = time.process_time()
    step()
    return time.process_time() - begun


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/split.json"))
    out = parser.parse_args().out
    whole = build_subject(CASE)
    units = layers(whole)
    release_lazily()
    subjects = {
        split: {number: client(whole, own) for number, own in deal(units, list(CLIENTS), 0).items()}
        for split, deal in SPLITS.items()
    }
    rows = measure(subjects, whole)
    means = {split: fmean(row["time_ratio"] for row in own) for split, own in rows.items()}
    saved = 1 - means["contiguous"] / means["cyclic"]
    write_json(out, {"provenance": provenance(), "rows": rows, "time_ratio_mean": means, "saved": saved})
    for split, own in rows.items():
        told = ", ".join(f"{row['time_ratio']:.2f}" for row in own)
        print(f"{split}: {told} x inference, mean {means[split]:.2f}")
    print(f"contiguous saves {saved:.0%} of the clients' time")


if __name__ == "__main__":
    main()
