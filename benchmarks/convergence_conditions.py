"""Who is compared where in the convergence benchmark, and under which conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from convergence_data import FIRST


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What is set for all methods alike, on every data set.

    Args:
        title: Its name in tables.
        settings: What is set beyond ``convergence.toml`` and the data set's own.
        settled: The condition whose choice each method keeps; if none, each has its own in the file or tries ``grid``.
        grid: What all try on the validation part instead; nothing if empty.
        seeds: How many of the seeds are run.
    """

    title: str
    settings: dict[str, Any] = field(default_factory=dict)
    settled: str | None = "alpha-1"
    grid: dict[str, Any] = field(default_factory=dict)
    seeds: int = 3


RANK: dict[str, Any] = {"peft.rank": 16, "peft.alpha": 4.0}
"""The scale falls with the root of the rank (rsLoRA, arXiv 2312.03732)."""
TUNED, UNEVEN, AVERAGED = "alpha-1", "alpha-0.1", "alpha-1-averaged"
RANKED, RANKED_UNEVEN, LONG = "alpha-1-rank-16", "alpha-0.1-rank-16", "alpha-1-long"
RANKED_LONG = "alpha-1-rank-16-long"
_UNEVEN: dict[str, Any] = {
    "data.alpha": 0.1,
    "client.steps": 1,
    "schedule.rounds": 64,
    "schedule.evaluate_every": 32,
    "schedule.checkpoint_every": 64,
}
MICRO, EXACT, PARTED = "alpha-1-micro", "alpha-1-exact", "alpha-1-parts"
CONDITIONS = {
    TUNED: Condition(title="alpha 1", settings={"data.alpha": 1.0}),
    UNEVEN: Condition(title="alpha 0.1", settings=_UNEVEN),
    AVERAGED: Condition(
        title="alpha 1, averaged",
        settings={"data.alpha": 1.0, "server.average": 1 - 4 / 16},
    ),
    RANKED: Condition(
        title="alpha 1, averaged, rank 16",
        settings={"data.alpha": 1.0, "server.average": 1 - 4 / 16, **RANK},
        settled=None,
        grid={"lr": [3e-3, 1e-2]},
    ),
    RANKED_UNEVEN: Condition(
        title="alpha 0.1, averaged, rank 16",
        settings={**_UNEVEN, "server.average": 1 - 4 / 64, **RANK},
        settled=RANKED,
    ),
    LONG: Condition(
        title="alpha 1, averaged, 128 rounds",
        settings={
            "data.alpha": 1.0,
            "schedule.rounds": 128,
            "schedule.evaluate_every": 16,
            "schedule.checkpoint_every": 32,
            "server.average": 1 - 4 / 128,
        },
        seeds=2,
    ),
    RANKED_LONG: Condition(
        title="alpha 1, averaged, rank 16, 64 rounds",
        settings={
            "data.alpha": 1.0,
            "schedule.rounds": 64,
            "schedule.checkpoint_every": 32,
            "server.average": 1 - 4 / 64,
            **RANK,
        },
        settled=RANKED,
        seeds=2,
    ),
    MICRO: Condition(
        title="alpha 1, two at once",
        settings={"data.alpha": 1.0, "client.micro_batch_size": 2},
        seeds=1,
    ),
    EXACT: Condition(title="alpha 1, exact gradients", settings={"data.alpha": 1.0}, settled=None, seeds=1),
    PARTED: Condition(title="alpha 1, part by part", settings={"data.alpha": 1.0}, settled=None),
}
"""By name; means of the server's weights look back over about a quarter of the rounds."""

METHODS = (
    "fedavg", "fedyogi", "fedsgd", "fedavg_split", "fedyogi_split", "spry", "spry_activation", "spry_per_iteration",
    "spry_paper", "fedfgd", "fedmezo", "fedmezo_paper", "baffle", "fwdllm", "head_only", "fedavg_top", "spry_top",
    "head_only_top", "fedsgd_adam", "spry_block", "head_only_block", "spry_block_adam", "head_only_block_adam",
)  # fmt: skip
MAIN = ("fedavg", "head_only_block", "spry_block")
ALONG = "spry_gradient"
"""spry_block with LoRA's B along gradients."""
PLAIN = ("spry", "spry_paper", "fedmezo")
"""Spry and the best of zeroth order without what was added here; the head is exact but for spry_paper."""
ADAM = ("fedsgd_adam", "head_only_block_adam", "spry_block_adam")
"""The main ones with one step of Adam a round on the server, from gradients at its weights, instead."""
VARIANTS = (
    "spry_activation", "spry_paper", "fedmezo_paper", "fedavg_top", "spry_block_adam", "head_only_block_adam",
)  # fmt: skip
SHOWN = (*MAIN, "fedsgd_adam", "head_only", "spry", "fedmezo", ALONG)
"""Methods that the first tables and the pictures show."""
PARTS = ("part_none", "part_four", "part_tied", "part_block", "whole", "whole_weights", "whole_head")
"""Spry with one part of spry_block more, and spry_block with one part less."""
WEIGHTS = (
    "exact_lora", "exact_all_maps", "exact_value", "exact_two_blocks", "exact_block", "exact_a1", "exact_a4",
    "exact_a16", "exact_g1", "exact_g4", "exact_g16", "exact_xs4", "exact_xs16",
)  # fmt: skip
"""What is trained, with exact gradients, at the step size that fedsgd_adam chose."""
COMPARED: dict[tuple[str, str], Sequence[str]] = {
    (FIRST, TUNED): METHODS,
    (FIRST, UNEVEN): [method for method in METHODS if method not in VARIANTS],
    (FIRST, AVERAGED): MAIN,
    (FIRST, RANKED): (*MAIN, ALONG, *ADAM),
    (FIRST, RANKED_UNEVEN): (*MAIN, *ADAM),
    (FIRST, LONG): ("spry", "fedmezo"),
    (FIRST, RANKED_LONG): MAIN,
    (FIRST, MICRO): MAIN,
    (FIRST, EXACT): WEIGHTS,
    (FIRST, PARTED): PARTS,
    ("ag_news", TUNED): (*MAIN, "head_only", *PLAIN),
    ("ag_news", UNEVEN): MAIN,
    ("ag_news", AVERAGED): MAIN,
    ("ag_news", RANKED): MAIN,
    ("ag_news", RANKED_UNEVEN): MAIN,
    ("nli", TUNED): (*MAIN, *PLAIN),
    ("nli", UNEVEN): MAIN,
    ("nli", RANKED): MAIN,
    ("nli", RANKED_UNEVEN): MAIN,
    ("tweets", TUNED): (*MAIN, *PLAIN),
    ("tweets", RANKED): (*MAIN, ALONG),
    ("tweets", RANKED_UNEVEN): MAIN,
}
"""Methods by data set and condition, in an order in which each finds what it builds on."""
