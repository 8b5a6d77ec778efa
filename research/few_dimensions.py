"""Whether a few hundred trained numbers pay, for clients that can only run inference and a wire of bytes.

    python research/few_dimensions.py DATA --cache FOLDER [--stage NAME]

SST-2 dealt to 100 clients (Dirichlet 1), 10 a round, 4 batches of 8, the head in closed form and fixed. Slopes are
products of exact gradients with directions, which is what forward mode measures (tests prove it to rounding), and what
central differences approach with h; so a trial takes seconds where the product takes minutes. What is chosen here is
run by the product in ``benchmarks/comparison.py``. Results are added to research/results/few_dimensions.json; what is
there is not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from few_problem import MAPS, Subspace
from few_setting import Setting, unpacked
from few_subspace import TEXTS, of_gradient, of_margins, of_weights, places, random
from few_training import Training, Trial

from spry.experiment.atomic import write_json
from spry.experiment.provenance import provenance

RESULTS = Path("research/results/few_dimensions.json")
FIXED, MOST = {"weights", "random"}, 16
"""Bases that no head and no text is needed for, and the most columns that are tried."""


def chosen_subspace(setting: Setting, trial: Trial) -> Subspace:
    """The subspace of a trial: the first columns of the largest one, which is kept."""
    blocks = [int(b) for b in trial.blocks.split(",")]
    parts = [_of_block(setting, trial.basis, block) for block in blocks]
    columns = {}
    for part in parts:
        for (block, name), (u, v) in part.items():
            if name in trial.maps.split(","):
                length = math.sqrt(len(u) / (3 * trial.rank))  # as in spry.contrib.lora_xs with alpha = rank
                columns[block, name] = (u[:, : trial.rank] * length, v[:, : trial.rank].contiguous())
    return Subspace(columns=columns)


def _of_block(setting: Setting, basis: str, block: int) -> Mapping[Any, Any]:
    kept = setting.cache / f"subspace-{basis}-{block}-{setting.seed if basis not in FIXED else 0}.pt"
    if not kept.is_file():
        torch.save(dict(_made(setting, basis, block).columns), kept)
    return torch.load(kept)


def _made(setting: Setting, basis: str, block: int) -> Subspace:
    model, low = setting.model, block
    where = places(model, [block], list(MAPS))
    if basis in FIXED:
        return {"weights": of_weights, "random": random}[basis](model, where, MOST)
    if basis == "labels":
        known = setting.held[: 4 * TEXTS]
        return of_gradient(model, setting.states(known, low), setting.labels(known), where, MOST)
    tokens = words(setting) if basis == "words" else public(setting)
    first = 10**7 * (1 + (basis == "public"))
    states = model.states(tokens, range(first, first + len(tokens)), low)
    return of_margins(model, states, where, MOST)


def words(setting: Setting) -> list[list[int]]:
    """Random words, which everybody can draw."""
    batch = setting.experiment.task.probe(setting.experiment.key.fold("subspace"), examples=TEXTS)
    return [
        ids[mask.bool()].tolist()
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]


def public(setting: Setting) -> list[list[int]]:
    """Another data set's texts, without labels: AG News, cut as SST-2 is."""
    lines = (
        unpacked(setting.data / "ag_news_test.tsv.gz", setting.cache).read_text(encoding="utf-8").splitlines()
    )
    texts = [line.split("\t")[-1] for line in lines[1 : TEXTS + 1]]
    tokenizer = setting.experiment.task.backbone.tokenizer
    return tokenizer(texts, truncation=True, max_length=32)["input_ids"]


STAGES: dict[str, Callable[[], Iterator[Trial]]] = {}


def stage(make: Callable[[], Iterator[Trial]]) -> Callable[[], Iterator[Trial]]:
    STAGES[make.__name__] = make
    return make


@stage
def last() -> Iterator[Trial]:
    """Exact gradients in the last block: which subspace, and how large a one, can hold an improvement at all."""
    for lr in (2e-2, 6e-2):
        yield Trial(basis="weights", lr=lr, rounds=16)
    for lr in (5e-4, 2e-3):
        yield Trial(basis="words", lr=lr, rounds=16)
    yield Trial(basis="labels", lr=2e-3, rounds=16)
    yield Trial(basis="random", lr=6e-2, rounds=16)
    for rank in (2, 8):
        yield Trial(basis="weights", lr=6e-2, rounds=16, rank=rank)


@stage
def spry() -> Iterator[Trial]:
    """Slopes in place of exact gradients, at one server step a round."""
    for lr in (2e-2, 6e-2):
        yield Trial(basis="weights", slopes=16, lr=lr, rounds=16)
    for directions in ("orthogonal", "gaussian"):
        yield Trial(basis="weights", slopes=64, lr=6e-2, rounds=16, pooled=True, directions=directions)


@stage
def mezo() -> Iterator[Trial]:
    """As many slopes, and FedMeZO's own steps: SGD on the clients, weights averaged."""
    for lr in (3e-2, 1e-1, 3e-1):
        yield Trial(basis="weights", slopes=16, steps="client", optimizer="sgd", lr=lr, rounds=16)
    for lr in (1e-2, 3e-2):
        yield Trial(basis="weights", slopes=1, steps="client", optimizer="sgd", lr=lr, rounds=16)


@stage
def final() -> Iterator[Trial]:
    """The chosen points on two other seeds."""
    for seed in (1, 2):
        yield Trial(basis="weights", slopes=16, lr=6e-2, rounds=16, seed=seed)
        yield Trial(
            basis="weights", slopes=16, steps="client", optimizer="sgd", lr=1e-1, rounds=16, seed=seed
        )
        yield Trial(basis="weights", lr=6e-2, rounds=16, seed=seed)


def main() -> None:
    """Run what is missing of a stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--stage", default=",".join(STAGES))
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings: dict[int, Setting] = {}
    for name in args.stage.split(","):
        for trial in STAGES[name]():
            results = read(args.out)
            if any(asdict(trial).items() <= row.items() for row in results["rows"]):
                continue
            if trial.seed not in settings:
                settings = {trial.seed: Setting(args.data, args.cache, trial.seed)}
            setting, begun = settings[trial.seed], time.process_time()
            subspace = chosen_subspace(setting, trial)
            found = Training(setting=setting, subspace=subspace, trial=trial).run()
            row = {"stage": name, **asdict(trial), "d": subspace.size(), **found}
            row["cpu_seconds"] = round(time.process_time() - begun, 1)
            results["rows"].append(row)
            write_json(args.out, {**results, "provenance": provenance()})
            told(row)


def told(row: Mapping[str, Any]) -> None:
    marks = " ".join(f"{n}:{100 * a:.1f}/{b:.4f} {100 * c:.1f}/{d:.4f}" for n, a, b, c, d in row["curve"])
    about = [
        row[k]
        for k in (
            "stage",
            "basis",
            "blocks",
            "maps",
            "rank",
            "d",
            "slopes",
            "steps",
            "optimizer",
            "lr",
            "seed",
        )
    ]
    print(*about, "|", marks, "|", row["cpu_seconds"], flush=True)


def read(out: Path) -> dict[str, Any]:
    return json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {"rows": []}


if __name__ == "__main__":
    main()
