"""The convergence benchmark's tables beside the main ones: part by part, by what is trained, by condition."""

from __future__ import annotations

from statistics import fmean, stdev
from typing import Any

from convergence_conditions import (
    ADAM,
    ALONG,
    AVERAGED,
    CONDITIONS,
    EXACT,
    LONG,
    MAIN,
    MICRO,
    PARTED,
    RANKED,
    RANKED_LONG,
    RANKED_UNEVEN,
    TUNED,
    UNEVEN,
)
from convergence_data import FIRST, SETS
from convergence_rows import HEADS, SOURCE, Row, chosen, costs_of, found_in, label, memory_and_bytes
from readme_layout import origin, spread, table

PARTS = {
    "part_none": "Spry: an exact head, one gaussian direction of LoRA's weights, Yogi on the server",
    "part_four": "the same with four directions",
    "part_tied": "the same with tied activation directions: LoRA's A of rank 4, signs",
    "part_block": "the same with the last block in the head",
    "whole": "**all**: tied activation directions of A, the last block in the head, a plain mean",
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
    "exact_a1": "LoRA's A of queries and values, rank 1, B along the weight's singular vectors",
    "exact_a4": "the same, rank 4",
    "exact_a16": "the same, rank 16",
    "exact_g1": "LoRA's A of queries and values, rank 1, B along gradients on random text",
    "exact_g4": "the same, rank 4",
    "exact_g16": "the same, rank 16",
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
    rows = [[said, spread(found[name]), memory_and_bytes(found[name])[0]] for name, said in WEIGHTS.items()]
    heads = [
        "trained, besides the head",
        f"{SETS[FIRST].title}, {CONDITIONS[TUNED].title}",
        f"{HEADS[0]} with a whole tape",
    ]
    return table(heads, rows) + f"\n\n{origin(result, SOURCE)}"


def servers(result: dict[str, Any]) -> str:
    """What one step of Adam a round on the server gives instead of the mean of the clients' own steps."""
    found = found_in(result)
    places = (TUNED, UNEVEN, RANKED, RANKED_UNEVEN)
    rows = []
    for name in (name for pair in zip(MAIN, ADAM, strict=True) for name in pair):
        own = [found[FIRST, at].get(name) for at in places]
        steps = [chosen(result["sets"][FIRST][at]["tuning"]["methods"][name]) for at in (TUNED, RANKED)]
        rows.append([label(found[FIRST, RANKED][name]), *map(spread, own), " and ".join(steps)])
    heads = ["", *(f"{SETS[FIRST].title}, {CONDITIONS[at].title}" for at in places), "step sizes"]
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
        for name in MAIN
        for at, row in ((at, found[FIRST, at][name]) for at in (TUNED, MICRO, AVERAGED, RANKED))
    ]
    heads = ["", "", f"{SETS[FIRST].title}, {CONDITIONS[TUNED].title}", "seeds", *HEADS]
    return table(heads, rows) + f"\n\n{origin(result, SOURCE)}"


def differences(result: dict[str, Any], name: str) -> str:
    """What forward mode adds to the block, and how far it is from backpropagation: differences seed by seed."""
    pairs = [("spry_block", "head_only_block"), ("spry_block", "fedavg"), (ALONG, "spry_block")]
    rows = []
    for (where, at), own in found_in(result).items():
        cells = [_difference(own.get(one), own.get(other)) for one, other in pairs]
        if where == name and any(cells) and at != MICRO:
            rows.append([CONDITIONS[at].title, *cells])
    used = [i for i in range(len(pairs)) if any(row[i + 1] for row in rows)]
    heads = ["", *(f"{pairs[i][0]} - {pairs[i][1]}" for i in used)]
    return (
        table(heads, [[row[0], *(row[i + 1] for i in used)] for row in rows])
        + f"\n\n{origin(result, SOURCE)}"
    )


def _difference(one: Row | None, other: Row | None) -> str:
    """Write the mean and the sample deviation of the differences in points, seeds having the same clients and deal."""
    if not one or not other:
        return ""
    apart = [100 * (a - b) for a, b in zip(one["accuracies"], other["accuracies"], strict=True)]
    return f"{fmean(apart):+.1f}" + (f" ± {stdev(apart):.1f}" if len(apart) > 1 else "")


def longer(result: dict[str, Any]) -> str:
    """What the main methods reach in four times the rounds, as they go."""
    looks = result["sets"][FIRST][RANKED_LONG]["views"]["equal_rounds"]
    rows = found_in(result)[FIRST, RANKED_LONG]
    lines = [
        [
            label(rows[row["method"]]),
            *(spread({**after, "seeds": rows[row["method"]]["seeds"]}) for after in row["after"]),
        ]
        for row in looks["rows"]
    ]
    note = (
        f"{SETS[FIRST].title}, {CONDITIONS[RANKED_LONG].title}: test accuracy, mean and sample deviation over "
        f"{len(next(iter(rows.values()))['seeds'])} seeds."
    )
    heads = ["after rounds", *map(str, looks["rounds"])]
    return table(heads, lines) + f"\n\n{note} {origin(result['sets'][FIRST][RANKED_LONG], SOURCE)}"


def long_runs(result: dict[str, Any]) -> str:
    """What methods reach in many rounds, and what they have spent against spry_block until its target."""
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
