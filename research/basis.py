"""How much of a layer's gradient the frozen B of ``lora_a`` can follow, by what its columns are.

    python research/basis.py --train sst2_train.tsv.gz

MiniLM on real text, queries and values below the last block, whose adapters the head holds. Measured is the share
``|B B' G|^2 / |G|^2``, for orthonormal columns of B and G the mean gradient of a layer's weight over many examples, at
the start and after some steps of Adam on exact gradients. Writes research/results/basis.json; a minute on one core.

Runs at commit 2e7a0ee (with its ``benchmarks`` in the place of ``research``), whose features it measures.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from signal_to_noise import CHUNK, STEPS, Setting
from spry.estimators.observe import observe
from torch import Tensor

from spry.contrib.singular import leading, left_singular
from spry.core.keys import Key
from spry.experiment.atomic import write_json
from spry.experiment.provenance import provenance

RANKS, MANY, TEXTS = (1, 4, 16), 800, 32
LAST = "layer.5"
"""The last block, whose maps are the head's."""


def bases(setting: Setting, mean: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Columns to compare, by what they are and by layer; the first two do not look at the data."""
    weights = base_weights(setting)
    probe = setting.task.probing(Key(5), examples=TEXTS)
    rows: dict[str, list[Tensor]] = {name: [] for name in weights}
    for _, part in probe.parts():
        for name, uses in observe(part, {**setting.weights, **weights}, list(weights)).items():
            rows[name] += [use.gradients.flatten(0, 1) for use in uses]
    most = max(RANKS)
    return {
        "gradients on random text": {name: leading(torch.cat(found), most) for name, found in rows.items()},
        "singular vectors of the weight": {name: left_singular(w, most) for name, w in weights.items()},
        "random": {
            name: torch.linalg.qr(Key(6).normal(name, (len(w), most)).double())[0]
            for name, w in weights.items()
        },
        "the best there are": {name: left_singular(g, most) for name, g in mean.items()},
    }


def base_weights(setting: Setting) -> dict[str, Tensor]:
    """The pretrained weights of the layers that are adapted below the last block."""
    named = setting.task.module.named_parameters()
    return {n: w for n, w in named if ".self." in n and n.endswith("base_layer.weight") and LAST not in n}


def gradients(setting: Setting) -> dict[str, Tensor]:
    """The mean gradient of each of them, over examples that were not trained on."""
    weights = base_weights(setting)
    total = {name: torch.zeros_like(w) for name, w in weights.items()}
    for start in range(STEPS * CHUNK, STEPS * CHUNK + MANY, CHUNK):
        batch = setting.data.batch(setting.order[start : start + CHUNK])
        seen = observe(setting.task.loss(batch, Key(0)), {**setting.weights, **weights}, list(weights))
        for name, uses in seen.items():
            for x, g in uses:
                total[name] += g.flatten(0, 1).T @ x.flatten(0, 1) / MANY
    return total


def shares(at: str, mean: Mapping[str, Tensor], found: Iterable[tuple[str, Any]]) -> list[dict[str, Any]]:
    """The share that each basis holds, a row for each basis, rank and kind of layer."""
    rows = []
    for basis, columns in found:
        for rank in RANKS:
            held = {
                name: float(
                    (columns[name][:, :rank].T @ g.double()).square().sum() / g.double().square().sum()
                )
                for name, g in mean.items()
            }
            for kind in ("query", "value"):
                own = [share for name, share in held.items() if kind in name]
                rows.append({"at": at, "basis": basis, "rank": rank, "maps": kind, "shares": own})
                print(at, basis, rank, kind, f"{100 * median(own):.1f} %", flush=True)
    return rows


def main() -> None:
    """Measure, train a little, measure again, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", required=True, help="a table with the columns label and sentence")
    parser.add_argument("--out", type=Path, default=Path("research/results/basis.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    setting = Setting(args.train, ["sentence"], 32)
    mean = gradients(setting)
    start = bases(setting, mean)
    rows = shares("start", mean, start.items())
    setting.train()
    mean = gradients(setting)
    after = bases(setting, mean)
    kept = "gradients on random text"
    now = {**after, kept: start[kept], f"{kept}, anew": after[kept]}
    rows += shares("trained", mean, now.items())
    about = {"steps": STEPS, "examples": MANY, "texts": TEXTS, "max_length": 32}
    write_json(args.out, {"provenance": provenance(), "setting": about, "rows": rows})


if __name__ == "__main__":
    main()
