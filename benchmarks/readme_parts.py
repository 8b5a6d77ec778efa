"""The convergence benchmark's tables beside the main ones: part by part, by what is trained, by condition."""

from __future__ import annotations

from typing import Any

from convergence_conditions import AVERAGED, CONDITIONS, EXACT, LONG, MICRO, PARTED, RANKED, TUNED
from convergence_data import FIRST, SETS
from convergence_rows import HEADS, SOURCE, costs_of, found_in, label, memory_and_bytes
from readme_layout import origin, spread, table

PARTS = {
    "part_none": "Spry: an exact head, one gaussian direction of LoRA's weights, Yogi on the server",
    "part_four": "+ four directions",
    "part_guided": "+ four directions, one of them the mean of past aggregates",
    "part_tied": "+ tied activation directions: LoRA's A of rank 4, signs",
    "part_block": "+ the last block in the head",
    "whole": "**all**: tied activation directions of A, the last block in the head, a plain mean",
    "whole_four": "all, and four directions",
    "whole_untied": "all, each token moved by itself",
    "whole_svag": "all, clients' steps scaled by the estimated signal to noise",
    "whole_adaptive": "all but the plain mean: Yogi on the server",
    "whole_weights": "all but activation directions: LoRA's weights, signs",
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
    rows = [[said, spread(found[name]), *memory_and_bytes(found[name])] for name, said in PARTS.items()]
    heads = ["", f"{SETS[FIRST].title}, {CONDITIONS[TUNED].title}", HEADS[0], HEADS[-1]]
    return table(heads, rows) + f"\n\n{origin(result, SOURCE)}"


def weights(result: dict[str, Any]) -> str:
    """How far exact gradients come, by what is trained: what a perfect estimator would reach."""
    found = found_in(result)[FIRST, EXACT]
    rows = [[said, spread(found[name])] for name, said in WEIGHTS.items()]
    heads = ["trained, besides the head", f"{SETS[FIRST].title}, {CONDITIONS[TUNED].title}"]
    return table(heads, rows) + f"\n\n{origin(result, SOURCE)}"


def conditions(result: dict[str, Any]) -> str:
    """What the main methods reach and take under the conditions that change memory or bytes."""
    found = found_in(result)
    rows = [
        [
            label(row),
            CONDITIONS[at].title.partition(", ")[2],
            spread(row),
            str(len(row["seeds"])),
            *costs_of(row),
        ]
        for name in found[FIRST, RANKED]
        for at, row in ((at, found[FIRST, at][name]) for at in (TUNED, MICRO, AVERAGED, RANKED))
    ]
    heads = ["", "", f"{SETS[FIRST].title}, {CONDITIONS[TUNED].title}", "seeds", *HEADS]
    return table(heads, rows) + f"\n\n{origin(result, SOURCE)}"


def long_runs(result: dict[str, Any]) -> str:
    """What the methods that are slow reach in many rounds, and what they have spent against spry_block until its target."""
    found, sets = found_in(result), result["sets"][FIRST]
    target = sets[AVERAGED]["views"]["target"]
    clients = sets[AVERAGED]["setting"]["schedule.clients_per_round"]
    reached = next(row["rounds"] for row in target["rows"] if row["method"] == "spry_block")
    ours = reached * found[FIRST, TUNED]["spry_block"]["flops_per_client_round"]
    looks = sets[LONG]["views"]["equal_rounds"]
    rows = []
    for row in looks["rows"]:
        own, price = (
            found[FIRST, LONG][row["method"]],
            found[FIRST, TUNED][row["method"]]["flops_per_client_round"],
        )
        for rounds, after in zip(looks["rounds"], row["after"], strict=True):
            if rounds & (rounds - 1) == 0:  # powers of two
                rows.append([
                    label(own),
                    str(rounds),
                    spread({**after, "seeds": own["seeds"]}),
                    f"{rounds * clients * price / 1e12:.0f} TFLOP",
                    f"{rounds * price / ours:.1f} x",
                ])
    heads = [
        "",
        "rounds",
        f"{SETS[FIRST].title}, {CONDITIONS[AVERAGED].title}",
        "operations",
        "times spry_block's",
    ]
    note = f"spry_block reaches {100 * target['target']:.1f} % after {clients * ours / 1e12:.1f} TFLOP."
    return table(heads, rows) + f"\n\n{note} {origin(result, SOURCE)}"
