"""Writes docs/results/routing.md and its picture from benchmarks/results/routing.json.

python -m benchmarks.routing_page
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib as mpl
from benchmarks.comparison_origins import origins
from benchmarks.comparison_words import DASH, told
from benchmarks.readme_layout import table

from spry.report import style

RESULTS = Path("benchmarks/results/routing.json")
PAGE, PICTURE = Path("docs/results/routing.md"), Path("docs/pictures/routing.png")
INTRODUCTION = """# Flow: global, local, or one of both

Each client has the global model, its own model after local tuning, and, with
[Flow](../../src/spry/contrib/flow/README.md), a policy that decides instance by instance which of the two answers.
Below is MiniLM on tweets, dealt at Dirichlet alpha 0.1, so that most clients have few classes. Both rows have the same
clients, rounds, gradients, step sizes and steps; the head is trained. `python -m benchmarks.routing_page` writes this
page."""
STAGES = {"before": "global model", "after": "tuned locally", "own": "routed"}

Found = Mapping[str, Any]


def page(found: Found) -> str:
    """The page that results give."""
    asked = found["settings"]
    setting = (
        f"{asked['examples']:,} tweets, of which a fifth is left out; {asked['clients']} clients, {asked['asked']} a "
        f"round, {asked['rounds']} rounds of {asked['steps']} steps, then {asked['tuning']} steps of local tuning for "
        "each client that holds examples out."
    )
    parts = [
        INTRODUCTION,
        setting,
        f"![Accuracy of each client](../pictures/{PICTURE.name})",
        _accuracies(found["seeds"]),
        "*Routed* is the mixture that the policy makes, of the local adapter and of the client's copy of the global "
        "one, which is trained with the policy. *One of both right* is the share of instances that one of these two "
        "answers rightly: no routing between them exceeds it. The ledger takes Flow's two passes over a batch for "
        "alike, so a round takes at least what it says.",
        "## By instance\n\nOver all seeds, held-out instances by who answers them rightly, the copy of the global "
        "adapter or the local one, and whom the policy gives the larger say:\n\n"
        + _instances(found["seeds"]),
        _verdict(found["seeds"]),
        "## Where the numbers come from\n\n" + _origins(found),
    ]
    return "\n\n".join(parts) + "\n"


def _origins(found: Found) -> str:
    return origins(
        [{"provenance": found["provenance"], "seed": int(seed)} for seed in found["seeds"]], "routing"
    )


def _share(arm: Found, key: str) -> float | None:
    clients = [one for one in arm["per_client"] if "own_details" in one]
    if not clients:
        return None
    return sum(one["held_out"] * one["own_details"][key] for one in clients) / sum(
        c["held_out"] for c in clients
    )


def _accuracies(seeds: Found) -> str:
    rows = []
    for arm in next(iter(seeds.values())):
        own = [one[arm] for one in seeds.values()]
        cells = [[one[stage] for one in own] for stage in STAGES]
        cells += [[_share(one, key) for one in own] for key in ("local_share", "either_right")]
        costs = fmean(one["operations"] for one in own) / 1e9
        shown = [DASH if None in some else told(some) for some in cells]
        rows.append([arm, str(len(own)), *shown, f"{costs:,.0f} GFLOP"])
    heads = ["trained by", "seeds", *STAGES.values(), "answered locally (%)", "one of both right (%)"]
    return table([*heads, "operations of the rounds"], rows)


def _instances(seeds: Found) -> str:
    count: Counter[str] = Counter()
    for arms in seeds.values():
        for client in arms["flow"]["per_client"]:
            count.update(client.get("own_details", {}).get("instances", {}))
    rows = [
        [f"{right} right", *(f"{count[f'{right} right, {asked} asked']:,}" for asked in ("global", "local"))]
        for right in ("both", "global alone", "local alone", "neither")
    ]
    return table(["", "global asked", "local asked"], rows)


def _verdict(seeds: Found) -> str:
    gaps = {
        name: [arms["flow"]["own"] - arms[arm]["after"] for arms in seeds.values()]
        for name, arm in (
            ("its own local adapter", "flow"),
            ("local tuning after plain averaging", "averaging"),
        )
    }
    said = "; ".join(f"{told(gap, signed=True)} from {name}" for name, gap in gaps.items())
    return (
        f"Flow's routed answers end, in points: {said}. The policy is trained on examples that the local adapter has "
        "just learnt, and nothing pulls it to the global one; so it gives the local adapter the larger say throughout."
    )


def draw(seeds: Found) -> None:
    """Draw each client's accuracies, a panel a seed; clients with more examples stand further to the right."""
    with mpl.rc_context(style.LOOK):
        made = style.figure(9, 3.6)
        panels: Sequence[Any] = made.subplots(1, len(seeds), sharey=True, squeeze=False)[0]
        for axes, (seed, arms) in zip(panels, seeds.items(), strict=True):
            clients = sorted(arms["flow"]["per_client"], key=lambda one: one["examples"])
            for place, (stage, name) in enumerate(STAGES.items()):
                look = {**style.mark(place), "linestyle": "none", "marker": "o^D"[place], "alpha": 0.8}
                axes.plot([100 * one[stage] for one in clients], label=name, **look)
            axes.set_title(f"seed {seed}")
            axes.set_xticks(range(len(clients)), [str(one["examples"]) for one in clients], rotation=90)
            axes.set_xlabel("training examples of the client")
        panels[0].set_ylabel("accuracy on what it holds out, %")
        style.legend(made, panels[0], "outside lower center")
        style.write_png(made, PICTURE)


def main() -> None:
    """Write the page and its picture."""
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    PAGE.write_text(page(found), encoding="utf-8")
    draw(found["seeds"])


if __name__ == "__main__":
    main()
