"""What the convergence benchmark runs: data sets, recipes (a method with its settings), and plans (lists of jobs)."""

from __future__ import annotations

import gzip
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Settings = dict[str, Any]

COMMON: Settings = {
    "data.clients": 100,
    "schedule.clients_per_round": 10,
    "schedule.evaluate_every": 5,
    "schedule.checkpoint_every": 10_000,
    "schedule.personalized": False,
    "client.steps": 4,
    "client.batch_size": 8,
    "method.checkpoint": False,
}

ACTIVATION: Settings = {
    "peft.kind": "lora_a",
    "method.estimator": "activation",
    "method.directions": "rademacher",
}
AVERAGE: Settings = {"server.optimizer": "sgd", "server.lr": 1.0}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A method as it is compared.

    Args:
        settings: What it changes of the common configuration.
        tuned: The setting whose value is chosen on the validation part.
        grid: The values tried.
    """

    settings: Settings
    tuned: str
    grid: tuple[float, ...]


def _recipe(method: str, tuned: str, grid: Sequence[float], *changes: Mapping[str, Any]) -> Recipe:
    settings: Settings = {"method.name": method}
    for change in changes:
        settings |= change
    return Recipe(settings=settings, tuned=tuned, grid=tuple(grid))


def _rank(rank: int) -> Settings:
    return {"peft.rank": rank, "peft.alpha": float(rank)}


ADAM: Settings = {"server.optimizer": "adam"}
YOGI: Settings = {"server.optimizer": "yogi", "server.lr": 1e-2}
SGD_STEPS: Settings = {"client.optimizer": "sgd", "client.lr": 1e-2}
TOP: Settings = {"peft.head": "top"}
LOCAL = (1e-3, 3e-3, 1e-2)
STEEP = (3e-3, 1e-2, 3e-2)
SERVER = (3e-3, 1e-2, 3e-2)

RECIPES: dict[str, Recipe] = {
    # rivals
    "head_only": _recipe("head_only", "client.lr", (3e-3, 1e-2, 3e-2)),
    "fedavg": _recipe("fedavg", "client.lr", LOCAL),
    "fedavg_checkpoint": _recipe("fedavg", "client.lr", LOCAL, {"method.checkpoint": True}),
    "fedavg_lora_a1": _recipe("fedavg", "client.lr", LOCAL, {"peft.kind": "lora_a"}, _rank(1)),
    "fedavg_lora_a4": _recipe("fedavg", "client.lr", LOCAL, {"peft.kind": "lora_a"}, _rank(4)),
    "fedmezo": _recipe("fedmezo", "client.lr", LOCAL, {"client.optimizer": "adamw"}),
    "fedmezo_sgd": _recipe("fedmezo", "client.lr", (1e-3, 1e-2, 1e-1)),
    # Spry as in the paper: gaussian weight directions, the head perturbed too, AdamW and Yogi
    "spry_paper": _recipe(
        "spry", "client.lr", (1e-4, 1e-3, 1e-2), {"method.exact_head": False, "method.sleep": False}, YOGI
    ),
    "spry_weight": _recipe("spry", "client.lr", LOCAL, {"method.directions": "rademacher"}, YOGI),
    # ours: activation directions, local steps averaged, with an adaptive server, or one server step a round
    "spry_a1": _recipe("spry", "client.lr", LOCAL, ACTIVATION, _rank(1), AVERAGE),
    "spry_a4": _recipe("spry", "client.lr", LOCAL, ACTIVATION, _rank(4), AVERAGE),
    "spry_top": _recipe("spry", "client.lr", STEEP, ACTIVATION, _rank(1), TOP),
    "head_only_top": _recipe("head_only", "client.lr", STEEP, TOP),
    "fedavg_top": _recipe("fedavg", "client.lr", STEEP, TOP, {"method.checkpoint": True}),
    "spry_a1_yogi": _recipe("spry", "client.lr", LOCAL, ACTIVATION, _rank(1), YOGI),
    "spry_a1_adam": _recipe("spry", "server.lr", SERVER, ACTIVATION, _rank(1), ADAM, SGD_STEPS),
    "step_a1": _recipe("spry_per_iteration", "server.lr", SERVER, ACTIVATION, _rank(1), ADAM),
    "step_a4": _recipe("spry_per_iteration", "server.lr", SERVER, ACTIVATION, _rank(4), ADAM),
    "step_a4_k4": _recipe(
        "spry_per_iteration", "server.lr", SERVER, ACTIVATION, _rank(4), ADAM, {"method.count": 4}
    ),
    "all_a1": _recipe("fedfgd", "client.lr", LOCAL, ACTIVATION, _rank(1), AVERAGE),
    "all_step_a1": _recipe(
        "spry_per_iteration", "server.lr", SERVER, ACTIVATION, _rank(1), ADAM, {"method.split": "everything"}
    ),
    "all_step_a4": _recipe(
        "spry_per_iteration", "server.lr", SERVER, ACTIVATION, _rank(4), ADAM, {"method.split": "everything"}
    ),
    "back_step_a4": _recipe(
        "fedsgd", "server.lr", SERVER, {"peft.kind": "lora_a", "method.checkpoint": True}, _rank(4), ADAM
    ),
    "spry_lora_auto": _recipe(
        "spry", "client.lr", LOCAL, {"method.estimator": "auto", "method.directions": "rademacher"}, AVERAGE
    ),
}
"""Recipes by name."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run.

    Args:
        name: Unlike any other in the plan.
        recipe: Which recipe it belongs to.
        data: Which data set.
        settings: Dotted keys of the configuration.
    """

    name: str
    recipe: str
    data: str
    settings: Settings


def datasets(folder: Path, scratch: Path) -> dict[str, Settings]:
    """Find the data files.

    Args:
        folder: Holds the files that ``SPRY_DATA`` describes.
        scratch: Where files made of several are put.

    Returns:
        The settings of each data set that is there.
    """
    pair: Settings = {"data.text": ["premise", "hypothesis"]}
    parts = {
        "sst2": (["sst2_train"], "sst2_dev", {"data.text": ["sentence"]}),
        "ag_news": (["ag_news_train"], "ag_news_test", {"data.test_examples": 2000}),
        "nli": (["snli_dev", "mnli_dev_matched"], "snli_test", pair | {"data.test_examples": 2000}),
        "tweets": (["tweets_train"], "tweets_test", {"data.test_examples": 2000}),
    }
    found: dict[str, Settings] = {}
    for name, (train, test, own) in parts.items():
        paths = [folder / f"{part}.tsv.gz" for part in (*train, test)]
        if all(path.is_file() for path in paths):
            source = paths[0] if len(train) == 1 else _joined(paths[:-1], scratch / f"{name}.tsv.gz")
            found[name] = {"data.name": str(source), "data.test": str(paths[-1]), **own}
    if "tweets" not in found:
        found["tweets"] = {"data.name": "tweets", "data.test_examples": 2000}
    return found


def _joined(paths: Sequence[Path], target: Path) -> Path:
    lines: list[str] = []
    for path in paths:
        head, *rows = gzip.decompress(path.read_bytes()).decode().splitlines()
        lines += rows if lines else [head, *rows]
    target.write_bytes(gzip.compress("\n".join(lines).encode() + b"\n"))
    return target


def plan(name: str, scratch: Path, chosen: Mapping[str, float]) -> list[Job]:
    """List the jobs of a plan, the most telling first.

    Args:
        name: A key of ``PLANS``.
        scratch: Where joined data files are put.
        chosen: Tuned values by ``data/recipe``, for plans that need them.

    Returns:
        The jobs.
    """
    known = datasets(Path(os.environ.get("SPRY_DATA", "data")), scratch)
    return list(PLANS[name](known, chosen))


def jobs(
    known: Mapping[str, Settings],
    data: str,
    recipe: str,
    seeds: Sequence[int] = (0,),
    values: Sequence[float] | None = None,
    rounds: int = 60,
    **extra: Any,
) -> Iterator[Job]:
    """Make the jobs of one recipe on one data set.

    Args:
        known: The data sets there are.
        data: One of them; none are made if it is missing.
        recipe: A key of ``RECIPES``.
        seeds: Seeds.
        values: Values of the tuned setting; the recipe's grid without them.
        rounds: Rounds of each run.
        **extra: Settings beyond, with ``__`` for the dot; they become part of the name.

    Yields:
        A job for each seed and value.
    """
    if data not in known:
        return
    made = RECIPES[recipe]
    more = {key.replace("__", "."): value for key, value in extra.items()}
    suffix = "".join(
        f",{key.rpartition('.')[2]}={value}" for key, value in more.items() if key != "data.alpha"
    )
    place = data + (f"-{more['data.alpha']:g}" if "data.alpha" in more else "")
    for seed, value in itertools.product(seeds, made.grid if values is None else values):
        yield Job(
            name=f"{place}/{recipe}{suffix}/{value:g}/s{seed}",
            recipe=recipe + suffix,
            data=data,
            settings={**COMMON, **known[data], **made.settings, made.tuned: value, **more}
            | {"seed": seed, "schedule.rounds": rounds},
        )


Known = Mapping[str, Settings]
Chosen = Mapping[str, float]


DEMO = ("spry_a1", "head_only", "step_a4", "fedavg", "spry_a4")


def _demo(known: Known, chosen: Chosen) -> Iterator[Job]:
    """What the quickstart could be: which rate and estimator beat the head alone clearly."""
    for recipe in DEMO:
        yield from jobs(known, "tweets", recipe)


FIRST = (
    "step_a4", "fedavg", "spry_a1", "head_only", "all_step_a4", "spry_a4", "back_step_a4", "spry_a1_yogi",
    "spry_weight", "spry_paper", "fedmezo", "step_a1", "step_a4_k4", "spry_a1_adam", "fedavg_lora_a4", "all_a1",
    "spry_lora_auto", "fedmezo_sgd",
)  # fmt: skip


def _first(known: Known, chosen: Chosen) -> Iterator[Job]:
    """Every recipe over its grid, one seed, and the ablation of the amplitudes."""
    for recipe in FIRST:
        yield from jobs(known, "sst2", recipe)
        if recipe in {"spry_a1", "step_a4"}:
            middle = RECIPES[recipe].grid[1:2]
            yield from jobs(known, "sst2", recipe, values=middle, method__amplitudes="equal")


TABLE = (
    "fedavg", "fedavg_top", "spry_top", "head_only_top", "step_a4", "spry_a1", "head_only", "spry_weight", "spry_paper",
    "fedmezo",
)  # fmt: skip


def _table(known: Known, chosen: Chosen) -> Iterator[Job]:
    """Chosen rates, three seeds, all data sets."""
    for seed, alpha, data, recipe in itertools.product(
        (0, 1, 2), (1.0, 0.1), ("sst2", "ag_news", "nli"), TABLE
    ):
        rates = {"values": [chosen[f"{data}/{recipe}"]]} if f"{data}/{recipe}" in chosen else {}
        yield from jobs(known, data, recipe, (seed,), **rates, rounds=100, data__alpha=alpha)


def _smoke(known: Known, chosen: Chosen) -> Iterator[Job]:
    """Two rounds of each recipe: whether everything runs on this machine, and how long a step takes."""
    for recipe in RECIPES:
        yield from jobs(
            known, "sst2", recipe, values=(1e-3,), rounds=2, schedule__clients_per_round=2,
            data__test_examples=16, schedule__evaluate_every=1,
        )  # fmt: skip


PLANS = {"demo": _demo, "first": _first, "table": _table, "smoke": _smoke}
"""Plans by name: each takes the data sets there are and the chosen values, and yields jobs."""
