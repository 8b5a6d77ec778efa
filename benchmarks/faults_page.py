"""Writes docs/results/faults.md and its picture from what soak.py, kills.py and their kin have left.

python -m benchmarks.faults_page
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from benchmarks.comparison_words import told
from benchmarks.readme_layout import table
from benchmarks.results_file import of_whole_seeds
from benchmarks.robust import LIES, ONE_IN
from benchmarks.robust_adapters import METHODS

from spry.report import style

PAGE, PICTURE = Path("docs/results/faults.md"), Path("docs/pictures/faults-soak.png")
RESULTS = Path("benchmarks/results")
MIB = 2**20
INTRODUCTION = """# Clients that fail, runs that are killed, replies that lie

What happens is the same in [the tests](../../tests/runtime/test_faults.py); the settings are in
[clients that fail](../howto/failing_clients.md). `python -m benchmarks.faults_page` writes this page from
`benchmarks/results/`: `soak.json`, `kills.json`, `cuts.json`, `fuzz.json`, `robust.json` and `robust_adapters.json`,
each left by the script of its name."""

Found = Mapping[str, Any]
NAMES = ("soak", "kills", "cuts", "fuzz", "robust", "robust_adapters")
SENT_BY = {
    "fedavg": "*Weights*, sent by FedAvg",
    "spry_per_iteration": "*Slopes*, sent by Spry per iteration: 16 directions in 66 dimensions",
}
HELD = ("file_handles", "threads", "children")


def page(results: Mapping[str, Found]) -> str:
    """The page that results give, by their names."""
    rows = [_origin(name, results[name]["provenance"]) for name in NAMES]
    heads = ["file", "date", "commit", "torch", "processor"]
    sections = (_soak, _kills, _cuts, _fuzz, _robust, _adapters)
    parts = [INTRODUCTION]
    for name, section in zip(NAMES, sections, strict=True):
        parts += section(results[name])
    return "\n\n".join([*parts, "## Where the numbers come from", table(heads, rows)]) + "\n"


def _origin(name: str, made: Found) -> list[str]:
    cpu, torch = made["machine"]["cpu"] or "", made["versions"]["torch"] or ""
    return [f"`{name}.json`", made["date"][:10], f"`{made['commit']}`", torch, cpu]


def _soak(found: Found) -> list[str]:
    first, last = _settled(found["held"])
    rows = []
    for fault, reasons in found["told"].items():
        brief = Counter[str]()
        for what, count in reasons.items():
            brief[_brief(what)] += count
        says = [f"{what} ({count:,})" for what, count in brief.most_common()]
        rows.append([fault, f"{brief.total():,}", "; ".join(says)])
    memory = [f"{one['resident_bytes'] / MIB:.1f} MiB after round {one['round']}" for one in (first, last)]
    held = [f"{what.replace('_', ' ')} {first[what]} and {last[what]}" for what in HELD]
    return [
        f"## {found['rounds']:,} rounds with faults",
        f"Spry on a tiny model, {found['asked']} clients a round and {found['spare']} to spare, deadline "
        f"{found['deadline_seconds']:g} s. Each client is a process. One in {1 / found['share_of_faults']:.0f} "
        f"fails, each fault alike. {found['units_without_a_reply']:,} of {found['unit_rounds']:,} times a unit had no "
        "reply in a round: it kept its value.",
        table(["fault", "times", "what the record tells (how often)"], rows),
        f"![What the server holds](../pictures/{PICTURE.name})",
        f"The server's process held {memory[0]} and {memory[1]}; {'; '.join(held)}.",
    ]


def _brief(what: str) -> str:
    """Leave out where a message is malformed, and which shapes it has."""
    return re.sub(r"\(N.*?float\w*", "...", what).partition(": ")[0]


def _settled(held: Sequence[Found]) -> tuple[Found, Found]:
    """The first tenth is left out."""
    return held[len(held) // 10], held[-1]


def _kills(found: Found) -> list[str]:
    rows = [[phase, ", ".join(differs) or "nothing"] for phase, differs in found["differences"].items()]
    return [
        "## A server that is killed",
        "Each run is sent SIGKILL in one phase and resumed. Compared with a run that was never killed are weights, "
        "every line of the log but for times and memory, and which files there are.",
        table(["killed", "what differs in the end"], rows),
    ]


def _cuts(found: Found) -> list[str]:
    rows = []
    for name, one in found["cuts"].items():
        failed = [(n, why) for n, entry in enumerate(one["rounds"], 1) for why in entry["failed"].values()]
        reasons = Counter(re.sub(r"\d+", "N", why.partition(" — ")[0]) for _, why in failed)
        says = "; ".join(f"{what} ({count})" for what, count in reasons.most_common())
        numbers = [number for number, _ in failed]
        where = f"{', '.join(map(str, numbers))} of {len(one['rounds'])}"
        longest = max(one["rounds"][number - 1]["seconds"] for number in numbers)
        ended = f"{one['status']}; {'the same' if one['same_weights'] else 'other'} weights"
        rows.append([name, where, says, f"{longest:.0f}", ended])
    settings = found["settings"]
    return [
        "## A node whose network is cut",
        "Two of Flower's nodes, each in a network namespace of its own, over TLS; the link of one is set down in round "
        f"2, and up again after round 3. `runtime.deadline` is {settings['runtime.deadline']:g} s where there is one. "
        "Nobody is told: what is sent is lost. Weights are compared with those of a run in one process in which the "
        "same replies are missing.",
        table(
            [
                "cut", "rounds without its reply", "what the record tells (how often)", "longest of them (s)",
                "how the run ended",
            ],
            rows,
        ),
    ]  # fmt: skip


def _fuzz(found: Found) -> list[str]:
    tried = sorted(found["tried"].items())
    rows = [[name, f"{count:,}", f"{found['refused'].get(name, 0):,}"] for name, count in tried]
    return [
        "## Damaged messages",
        f"{found['inputs']:,} messages with wrong bits, bytes or fields, of {len(found['seeds'])} seeds: each was "
        "refused, or read as something that a whole message could say. The slowest took "
        f"{1000 * found['slowest_seconds']:.0f} ms.",
        table(["message", "tried", "refused"], rows),
    ]


def _robust(found: Found) -> list[str]:
    setting, parts = found["setting"], []
    for method, clip in setting["clip"].items():
        runs = of_whole_seeds([run for run in found["runs"] if run["method"] == method])
        seeds = _seeds(len({run["seed"] for run in runs}))
        parts += [f"{SENT_BY[method]}, clipped to {clip:g}; {seeds}:", _by_lie(runs)]
    return [
        "## Clients that lie",
        f"MiniLM's last map on SST-2; {setting['asked']} of {setting['clients']:,} clients with "
        f"{setting['examples_each']} texts a round, {setting['rounds']} rounds. One client in "
        f"{1 / setting['liars']:.0f} multiplies what it sends. Accuracy in % on the dev part.",
        *parts,
        "A rule needs several owners of each weight: `server.aggregate` is refused where a split leaves fewer than "
        "three to the median, or too few for the trimmed mean to leave any out. `server.clip` works with one owner, "
        "too, but only bounds what a reply moves.",
    ]


def _adapters(found: Found) -> list[str]:
    settings, parts = found["settings"], []
    best = max(run["accuracy"] for run in found["runs"])
    error = math.sqrt(best * (1 - best) / settings["data.test_examples"])
    for method in dict.fromkeys(run["method"] for run in found["runs"]):
        runs = of_whole_seeds([run for run in found["runs"] if run["method"] == method])
        most = max(count for run in runs for count in run["lies"])
        seeds = _seeds(len({run["seed"] for run in runs}))
        parts += [f"LoRA in {METHODS[method]}, {seeds}; up to {most} replies of a round lie:", _by_lie(runs)]
    return [
        "### On adapters",
        f"Whole runs of MiniLM on `{settings['data.name']}`, from a head in closed form: "
        f"{settings['schedule.clients_per_round']} of 100 clients a round, {settings['schedule.rounds']} rounds of "
        f"{settings['client.steps']} steps. One client in {ONE_IN} multiplies what it learnt; what clients sum up for "
        f"the head is true, for no rule bounds that. Accuracy in % on {settings['data.test_examples']} texts, whose "
        f"standard error is {100 * error:.1f}; – was not run.",
        *parts,
        "Of two runs that lies have turned around, which one ends lower says nothing. A trimmed mean bears as many "
        "liars as it leaves out at each end, and chance asks more of them in some rounds: `server.trim` has to be well "
        "above their share. The median leaves out the most.",
    ]


def _by_lie(runs: Sequence[Found]) -> str:
    """Set accuracies out by rule and lie."""
    known = {run["lie"] for run in runs}
    lies, rows = [lie for lie in LIES if lie in known], []
    for rule in dict.fromkeys(run["rule"] for run in runs):
        own = [[run["accuracy"] for run in runs if (run["rule"], run["lie"]) == (rule, lie)] for lie in lies]
        rows.append([rule, *map(told, own)])
    return table(["server", *(f"lie: {lie}" for lie in lies)], rows)


def _seeds(number: int) -> str:
    return "one seed" if number == 1 else f"mean and deviation over {number} seeds"


def draw(soak: Found, path: Path = PICTURE) -> None:
    """Draw what the server held, against rounds."""
    rounds = [one["round"] for one in soak["held"]]
    with mpl.rc_context(style.LOOK):
        made = style.figure(8, 3)
        left, right = made.subplots(1, 2)
        left.plot(rounds, [one["resident_bytes"] / MIB for one in soak["held"]], **style.mark(0))
        left.set_ylim(0, 1.2 * max(one["resident_bytes"] for one in soak["held"]) / MIB)
        left.set_ylabel("resident memory (MiB)")
        for place, what in enumerate(("file_handles", "threads", "children")):
            right.plot(
                rounds, [one[what] for one in soak["held"]], label=what.replace("_", " "), **style.mark(place)
            )
        right.set_ylabel("held after the round")
        right.set_ylim(bottom=-0.5)
        right.legend()
        for axes in (left, right):
            axes.set_xlabel("rounds")
        style.write_png(made, path)


def read(name: str) -> Found:
    """Read results."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def main() -> None:
    """Write the page and its picture."""
    found = {name: read(name) for name in NAMES}
    PAGE.write_text(page(found), encoding="utf-8")
    draw(found["soak"])


if __name__ == "__main__":
    main()
