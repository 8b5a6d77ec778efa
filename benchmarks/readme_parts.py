"""The convergence benchmark's tables beside the main ones: part by part, with small batches, over many rounds."""

from __future__ import annotations

from typing import Any

from convergence_conditions import CONDITIONS, EXACT, LONG, MICRO, PARTED, TUNED
from convergence_data import FIRST, SETS
from convergence_rows import HEADS, SOURCE, costs_of, found_in, label
from readme_layout import origin, spread, table

PARTS = {
    "part_none": "Spry: an exact head, one gaussian direction of LoRA's weights, Yogi on the server",
    "part_rademacher": "+ signs in place of normal numbers",
    "part_four": "+ four directions",
    "part_guided": "+ four directions, one of them along past aggregates",
    "part_svag": "+ client steps sized by the noise of the gradient",
    "part_xs": "+ LoRA-XS of rank 4, signs",
    "part_activation": "+ activation directions: LoRA's A of rank 4, signs",
    "part_tied": "+ the same, tied",
    "part_block": "+ the last block in the head",
    "whole": "**all**: tied activation directions of A, the last block in the head, a plain mean",
    "whole_untied": "all but tied",
    "whole_weights": "all but activation directions: LoRA's weights, signs",
    "whole_adaptive": "all but the plain mean: Yogi on the server",
    "whole_four": "all, with four directions",
    "whole_head": "all but forward mode: the last block and nothing below it",
}
"""What the rows of the table of parts are."""
WEIGHTS = {
    "exact_lora": "LoRA of queries and values",
    "exact_value": "LoRA of values",
    "exact_all_maps": "LoRA of all maps",
    "exact_two_blocks": "LoRA of all maps of the last two blocks",
    "exact_block": "LoRA of all maps of the last block",
    "exact_a1": "LoRA's A of queries and values, rank 1",
    "exact_a4": "the same, rank 4",
    "exact_a16": "the same, rank 16",
    "exact_xs4": "LoRA-XS of queries and values, rank 4",
    "exact_xs16": "the same, rank 16",
}
"""What is trained in the rows of the table of weights."""


def parts(result: dict[str, Any]) -> str:
    """What each part of spry_block gives by itself, and what it takes from the whole if it is left out."""
    found = found_in(result)[FIRST, PARTED]
    rows = [[said, spread(found[name]), *costs_of(found[name])] for name, said in PARTS.items()]
    heads = ["", f"{SETS[FIRST].title}, {CONDITIONS[TUNED].title}", *HEADS]
    return table(heads, rows) + f"\n\n{origin(result, SOURCE)}"


def weights(result: dict[str, Any]) -> str:
    """How far exact gradients come, by what is trained: what a perfect estimator would reach."""
    found = found_in(result)[FIRST, EXACT]
    rows = [[said, spread(found[name])] for name, said in WEIGHTS.items()]
    heads = ["trained, besides the head", f"{SETS[FIRST].title}, {CONDITIONS[TUNED].title}"]
    return table(heads, rows) + f"\n\n{origin(result, SOURCE)}"


def small_batches(result: dict[str, Any]) -> str:
    """What the main methods reach and take if all keep fewer examples in memory at once."""
    found = found_in(result)
    rows = [
        [
            label(row),
            CONDITIONS[at].title.partition(", ")[2] or "all eight at once",
            spread(row),
            *costs_of(row),
        ]
        for name in found[FIRST, MICRO]
        for at, row in ((at, found[FIRST, at][name]) for at in (TUNED, MICRO))
    ]
    heads = ["", "examples in memory", f"{SETS[FIRST].title}, {CONDITIONS[TUNED].title}", *HEADS]
    return table(heads, rows) + f"\n\n{origin(result, SOURCE)}"


def long_runs(result: dict[str, Any]) -> str:
    """How far methods come that need many rounds, and what that costs against the whole of spry_block's training."""
    own = result["sets"][FIRST][LONG]
    tuned, ours = result["sets"][FIRST][TUNED], found_in(result)[FIRST, TUNED]["spry_block"]
    clients, most = (own["setting"][f"schedule.{key}"] for key in ("clients_per_round", "rounds"))
    reference = ours["flops_per_client_round"] * tuned["setting"]["schedule.rounds"]
    rows = []
    for row, view in zip(own["rows"], own["views"]["equal_rounds"]["rows"], strict=True):
        spent = row["flops_per_client_round"] * most
        reached = [f"{100 * after['accuracy_mean']:.1f}" for after in view["after"]]
        rows.append([
            label(row),
            str(len(row["seeds"])),
            *reached,
            f"{clients * spent / 1e12:.0f} TFLOP, {spent / reference:.1f} x",
        ])
    heads = [
        "",
        "seeds",
        *(f"{count} rounds" for count in own["views"]["equal_rounds"]["rounds"]),
        "operations",
    ]
    return table(heads, rows) + f"\n\n{origin(result, SOURCE)}"
