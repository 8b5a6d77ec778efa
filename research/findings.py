"""Writes the tables of research/README.md from the results beside it.

python research/findings.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

HERE = Path(__file__).parent


def read(path: str) -> Any:
    return json.loads((HERE / path).read_text(encoding="utf-8"))


def spread(values: Sequence[float]) -> str:
    return f"{fmean(values):.1f} ± {stdev(values):.1f}"


def activation() -> str:
    """Accuracy of what lies below an exact last block, and differences seed by seed."""
    lines = [
        "| rounds | last block alone | activation below | weights below | activation - alone | activation - weights |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for rounds, part in read("activation/rank16.json")["comparisons"].items():
        found = {row["method"]: [100 * a for a in row["accuracies"]] for row in part["rows"]}
        differences = [
            [a - b for a, b in zip(found["activation"], found[other], strict=True)]
            for other in ("block", "weights")
        ]
        cells = [spread(found[name]) for name in ("block", "activation", "weights")]
        lines.append(f"| {rounds.split()[0]} | {' | '.join([*cells, *map(spread, differences)])} |")
    return "\n".join(lines)


def parts() -> str:
    """What single parts of the old recipe did on SST-2."""
    rows = read("results/untrained_heads.json")["sets"]["sst2"]["alpha-1-parts"]["rows"]
    named = {row["method"]: row for row in rows}
    told = {
        "part_none": "plain Spry (weights, K = 1)",
        "part_four": "four directions",
        "part_tied": "activation directions, tied",
        "part_block": "exact last block, weights below",
        "whole": "exact last block, activation below",
        "whole_head": "exact last block, nothing below",
    }
    lines = ["| SST-2, alpha 1, rank 1, 3 seeds | accuracy |", "|---|---|"]
    lines += [
        f"| {text} | {spread([100 * a for a in named[name]['accuracies']])} |" for name, text in told.items()
    ]
    return "\n".join(lines)


def errors() -> str:
    """Relative squared errors of estimates, as medians over what was measured."""
    control = {(row["kind"], row["control"]): row for row in read("results/control_variates.json")["rows"]}
    kind = next(iter(control))[0]
    signal = [row for row in read("results/signal_to_noise.json")["rows"] if row["estimator"] == "backprop"]
    credit = {(row["maps"], row["C"]): row for row in read("results/credit.json")["rows"]}
    most = max(c for maps, c in credit if maps == "layer")
    lines = ["| what | relative squared error |", "|---|---|"]
    lines += [
        f"| control variate `{name}`, {kind} | {control[kind, name]['error']:,.0f} |"
        for name in ("none", "previous", "guided")
    ]
    lines += [
        f"| credit by position, one layer, {c} segment{'s' * (c > 1)} | {credit['layer', c]['error']:,.0f} |"
        for c in (1, most)
    ]
    lines.append(
        f"| exact gradients of ten clients of 8 examples, median map | {median(r['all_clients'] for r in signal):.1f} |"
    )
    lines.append(f"| exact gradient of one of them | {median(r['one_client'] for r in signal):.0f} |")
    return "\n".join(lines)


def slopes() -> str:
    """Cosines of guesses with the exact gradient on single texts and random tokens."""
    return _cosines("results/residual_cosines.json")


def tapes() -> str:
    """Operations, peak and processor time by the rows on one tape, as multiples of checkpointing's."""
    lengths = read("results/tape.json")["lengths"]
    lines = ["| a step of 8 texts | " + " | ".join(f"{length} tokens" for length in lengths) + " |"]
    lines.append("|---" * (1 + len(lengths)) + "|")
    rival, *ways = next(iter(lengths.values()))
    for way in ways:
        shares = [
            [found[way][key] / found[rival][key] for key in ("operations", "peak_bytes", "cpu_seconds")]
            for found in lengths.values()
        ]
        cells = [", ".join(f"{share:.2f}" for share in own) for own in shares]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def pairs() -> str:
    """Cosines of guesses with the exact gradient on pairs of texts."""
    return _cosines("results/pairs.json", "length a block")


def _cosines(path: str, but: str = "exact, length a block") -> str:
    """Cosines with the exact gradient: of the same examples by block, of all below, of other examples."""
    lines = ["| model | guess | lowest block | middle | upper | all below | least of all | other examples |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for model, guesses in read(path)["models"].items():
        for guess, row in guesses.items():
            if guess.endswith(but):
                continue
            same = row["same"]
            depth = len(same) - 1
            cells = [same[str(i)] for i in (0, depth // 2, depth - 2)]
            cells += [same["below"], row["same_least"]["below"], row["other"]["below"]]
            lines.append(f"| {model} | {guess} | {' | '.join(f'{value:.2f}' for value in cells)} |")
    return "\n".join(lines)


def few() -> str:
    """Runs in a few dimensions, in the order in which they were tried."""
    told = {"last": "exact gradient, server Adam", "mezo": "FedMeZO's steps: client SGD"}
    lines = [
        "| gradient and steps | columns | d | slopes a round | step size | seed | accuracy | test loss |"
    ]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in sorted(read("results/few_dimensions.json")["rows"], key=_few_order):
        exact, client = row["slopes"] == 0, row["steps"] == "client"
        how = told["last"] if exact else told["mezo"] if client else "slopes, server Adam"
        how += {"orthogonal": ", at right angles"}.get(row["directions"], "") + (
            ", of 32 texts at once" if row["pooled"] else ""
        )
        slopes = 0 if exact else row["slopes"] * (1 if row["pooled"] else 4)
        _, accuracy, loss = row["curve"][-1][:3]
        cells = [how, row["basis"], row["d"], slopes or "-", f"{row['lr']:g}", row["seed"]]
        lines.append(f"| {' | '.join(map(str, cells))} | {100 * accuracy:.1f} | {loss:.3f} |")
    return "\n".join(lines)


def _few_order(row: dict[str, Any]) -> tuple[Any, ...]:
    keys = ("seed", "steps", "slopes", "basis", "d", "pooled", "lr")
    return tuple(row[key] for key in keys)


def slope_costs() -> str:
    """Operations of a step on MiniLM."""
    counted = read("results/residual_cosines.json")["operations"]
    lines = ["| a step of | inferences |", "|---|---|"]
    named = {"exact": "exact, with checkpointing"}
    ranked = sorted(counted.items(), key=lambda item: item[1])
    return "\n".join([*lines, *(f"| {named.get(name, name)} | {cost:.2f} |" for name, cost in ranked)])


def guesses() -> str:
    """What training by a guess reaches, and what a slope adds to it."""
    arms: dict[str, list[Any]] = {}
    for run in read("results/residual_training.json")["runs"].values():
        arms.setdefault(run["arm"], []).append(run)
    lines = [
        "| trained by | seeds | before | after | test loss | inferences a step |",
        "|---|---|---|---|---|---|",
    ]
    for arm, runs in arms.items():
        before, after = ([100 * run[at][0] for run in runs] for at in ("start", "accuracies"))
        loss, cost = fmean(run["losses"][-1] for run in runs), runs[0].get("operations")
        told = [fmean(before), fmean(after)] if len(runs) == 1 else [spread(before), spread(after)]
        cells = [one if isinstance(one, str) else f"{one:.1f}" for one in told]
        lines.append(
            f"| {arm} | {len(runs)} | {' | '.join(cells)} | {loss:.3f} | {f'{cost:.2f}' if cost else '–'} |"
        )
    return "\n".join(lines)


def maps() -> str:
    """The recipe with all maps of the last block adapted, and with queries and values alone."""
    rows = read("results/adapted_maps.json")["rows"]
    lines = [
        "| run | adapted in the last block | before round 1 | halfway | at the end | upload |",
        "|---|---|---|---|---|---|",
    ]
    for case, exact in dict.fromkeys((row["case"], row["exact"]) for row in rows):
        own = [row for row in rows if (row["case"], row["exact"]) == (case, exact)]
        scores = [spread([100 * row["curve"][at][1] for row in own]) for at in (0, 1, -1)]
        sent = f"{fmean(row['bytes_up_per_client_round'] for row in own) / 1024:.0f} KiB"
        adapted = "all maps" if exact == "auto" else "queries and values"
        lines.append(f"| {case} | {adapted} | {' | '.join(scores)} | {sent} |")
    return "\n".join(lines)


def main() -> None:
    page = HERE / "README.md"
    text = page.read_text(encoding="utf-8")
    for table in (activation, parts, errors, slopes, slope_costs, tapes, maps, pairs, few, guesses):
        body = table()
        marked = rf"(<!-- {table.__name__}:begin -->\n).*?(<!-- {table.__name__}:end -->)"
        text = re.sub(marked, lambda m, body=body: f"{m[1]}{body}\n{m[2]}", text, flags=re.DOTALL)
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
