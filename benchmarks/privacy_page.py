"""Writes docs/results/privacy.md and its picture from what privacy.py, privacy_adapters.py and privacy_norms.py left.

python -m benchmarks.privacy_page
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import matplotlib as mpl
from benchmarks import privacy_adapters as adapters
from benchmarks import privacy_norms
from benchmarks.comparison_words import told
from benchmarks.privacy import EPSILONS, METHOD_NAMES, RESULTS, TUNING_EPSILON, TUNING_SEED
from benchmarks.readme_layout import machine_of, origin, table
from benchmarks.results_file import of_whole_seeds
from matplotlib.axes import Axes

from spry.report import style

PAGE, PICTURE = Path("docs/results/privacy.md"), Path("docs/pictures/privacy.png")
Results = Mapping[str, Any]
Scores = Sequence[Sequence[float]]
TUNED = {TUNING_SEED, *adapters.TUNING_SEEDS}
BUDGETS = [None if epsilon == float("inf") else epsilon for epsilon in EPSILONS]
"""None is no noise."""
TITLES = {name: row.title for name, row in adapters.ROWS.items()}


def page(results: Results, of_adapters: Results, norms: Results) -> str:
    """The page that results give."""
    of_adapters = _complete(of_adapters)
    parts = [
        _introduction(results),
        f"![Accuracy against epsilon](../pictures/{PICTURE.name})",
        *_adapters(of_adapters, norms),
        *_last_map(results),
    ]
    return "\n\n".join(parts) + "\n"


def _introduction(results: Results) -> str:
    error = 100 * (0.25 / results["test_examples"]) ** 0.5
    return (
        "# Accuracy against epsilon\n\n"
        f"SST-2, {results['clients']:,} clients of {results['examples_per_client']} training texts each, "
        f"{results['test_examples']} test texts, {results['rounds']} rounds of about {results['asked']} clients, each "
        f"asked by itself. Clients are hidden from whoever sees the models (central noise), at delta "
        f"{results['delta']:g}. Test accuracy is in percent: mean and sample deviation over the seeds, which differ in "
        f"dealing, sampling and noise. The standard error of the test part is {error:.1f} points; its larger class has "
        f"{100 * results['larger_class']:.1f} %. [Privacy](../privacy.md) says what is hidden; "
        "`python -m benchmarks.privacy_page` writes this page."
    )


def _adapters(found: Results, norms: Results) -> list[str]:
    share = found["settings"]["privacy.head_share"]
    rows = []
    for name, budget in zip(map(_name, BUDGETS), BUDGETS, strict=True):
        rows.append([
            name,
            told(_starts(found, budget)),
            *(told(_of(found, "row", r, budget)) for r in TITLES),
        ])
    few, every = (_size(found, name) for name in ("spry_few", "fedavg"))
    chosen = "; ".join(
        f"{TITLES[name]} {run['lr']:g} of {', '.join(f'{lr:g}' for lr in row.step_sizes)}"
        for name, row in adapters.ROWS.items()
        for run in [next(iter(_runs(found, BUDGETS[0], row=name)), None)]
        if run
    )
    tuning = " and ".join(map(str, adapters.TUNING_SEEDS))
    return [
        "## Adapters in the last block",
        f"Whole runs of `spry run` on MiniLM. The head is in closed form from noised sums of all clients, for "
        f"{share:g} of the budget, and stays; the rest of it trains LoRA of rank 1 ({every:,} weights) or a square "
        f"matrix in each map (LoRA-XS, {few} numbers). FedAvg's clients take two steps; slopes are measured along 16 "
        "directions that all clients of a round share. The server steps by Adam.",
        table(["epsilon", "the head, before round 1", *TITLES.values()], rows),
        _told_of_adapters(found),
        f"{_clips(norms['norms'])} Step sizes of the server, chosen at epsilon {TUNING_EPSILON:g} under seeds {tuning} "
        f"by the accuracy that is reported, a choice that is not private: {chosen}. {_seeds(found)} "
        f"{origin({'provenance': found['provenance']}, 'python -m benchmarks.privacy_adapters')}",
    ]


def _clips(norms: Mapping[str, Sequence[float]]) -> str:
    parts = [
        f"{adapters.ROWS[row].title} {adapters.ROWS[row].clip:g} ({median(norms[row]):.2g})" for row in TITLES
    ]
    count = len(next(iter(norms.values())))
    return (
        f"Replies are shortened to about the median norm of {count} replies of round 1, in brackets: "
        f"{'; '.join(parts)} (`python -m benchmarks.privacy_norms`)."
    )


def _told_of_adapters(found: Results) -> str:
    gains = []
    for row, title in TITLES.items():
        by_budget = [
            told([run["accuracy"] - run["start"] for run in _runs(found, budget, row=row)], signed=True)
            for budget in BUDGETS
        ]
        gains.append(f"{title} {' / '.join(by_budget)}")
    return f"Added to the head, in points, from the least epsilon to none: {'; '.join(gains)}."


def _last_map(results: Results) -> list[str]:
    rows = [
        [_name(budget), *(told(_of(results, "method", m, budget)) for m in METHOD_NAMES)]
        for budget in BUDGETS
    ]
    dimensions = 2 * results["fewer_features"] + 2
    *others, last = (f"{lr:g}" for lr in results["step_sizes"])
    return [
        "## The last map alone",
        "The same clients, on features of the frozen model, which are centred and scaled by those of public texts "
        "(SNLI): small models, without what adapters add.",
        table(["epsilon", *METHOD_NAMES.values()], rows),
        f"- *DP-FedAvg* takes {results['local_steps']} local steps on all {2 * results['features'] + 2} weights; "
        f"updates are shortened to {results['clip']:g}.\n"
        f"- *Slopes alone* is `spry_per_iteration`: {results['directions']} shared directions a round in {dimensions} "
        f"dimensions, a linear map of {results['fewer_features']} random combinations of the features; a client's "
        "slopes together are shortened to the same.\n"
        "- *Closed form* takes sums of all clients once and solves, without rounds.",
        "Rounds are few, and the first two are not at their end. Noise in fewer dimensions costs less, and fewer "
        "dimensions say less. Differences below the standard error say nothing.",
        f"The server's step size of the first two was chosen of {', '.join(others)} and {last} as above. "
        f"{_seeds(results)} {machine_of(results)}, which other jobs shared; torch {results['versions']['torch']}, "
        f"{results['date'][:10]}, commit {results['commit'][:7]}.",
    ]


def _name(epsilon: float | None) -> str:
    return "none: clipped only" if epsilon is None else f"{epsilon:g}"


def _runs(results: Results, epsilon: float | None, **wanted: Any) -> list[Results]:
    wanted = {**wanted, "epsilon": epsilon}
    return [r for r in results["runs"] if wanted.items() <= r.items() and r["seed"] not in TUNED]


def _starts(found: Results, epsilon: float | None) -> list[float]:
    """The head's accuracy by seed, which all rows share."""
    return [*{run["seed"]: run["start"] for run in _runs(found, epsilon)}.values()]


def _of(results: Results, kind: str, name: str, epsilon: float | None) -> list[float]:
    return [run["accuracy"] for run in _runs(results, epsilon, **{kind: name})]


def _size(found: Results, row: str) -> int:
    return next(run["trainable_weights"] for run in found["runs"] if run["row"] == row)


def _complete(found: Results) -> Results:
    """Keep what step sizes were chosen by, and runs with these, of seeds that all rows and budgets were run with."""
    chosen = {row: adapters.best_lr(found["runs"], row) for row in TITLES}
    tried = [run for run in found["runs"] if run["seed"] in TUNED]
    runs = [run for run in found["runs"] if run["seed"] not in TUNED and run["lr"] == chosen[run["row"]]]
    return {**found, "runs": [*tried, *of_whole_seeds(runs)]}


def _seeds(results: Results) -> str:
    seeds = sorted({run["seed"] for run in results["runs"]} - TUNED)
    return f"Seeds {', '.join(map(str, seeds))}." if len(seeds) > 1 else f"Seed {seeds[0]} alone."


def draw(results: Results, of_adapters: Results) -> None:
    """Draw accuracy against epsilon, with the runs without noise at the right end."""
    of_adapters = _complete(of_adapters)
    with mpl.rc_context(style.LOOK):
        made = style.figure(9, 4.4)
        left, right = made.subplots(1, 2, sharey=True)
        trained = {title: [_of(of_adapters, "row", r, b) for b in BUDGETS] for r, title in TITLES.items()}
        _lines(left, {**trained, "the head, before round 1": [_starts(of_adapters, b) for b in BUDGETS]})
        _lines(right, {t: [_of(results, "method", m, b) for b in BUDGETS] for m, t in METHOD_NAMES.items()})
        for axes, title in ((left, "adapters in the last block"), (right, "the last map alone")):
            axes.axhline(100 * results["larger_class"], **style.BASELINE_LINE)
            axes.set_xticks(range(len(BUDGETS)), ["no noise" if b is None else f"{b:g}" for b in BUDGETS])
            axes.set_xlabel(f"epsilon at delta {results['delta']:g}")
            axes.set_title(title)
            axes.legend(loc="upper left")
        left.set_ylabel("test accuracy, %")
        style.write_png(made, PICTURE)


def _lines(axes: Axes, found: Mapping[str, Scores]) -> None:
    for place, (title, scores) in enumerate(found.items()):
        there = [at for at, values in enumerate(scores) if values]
        axes.errorbar(
            there,
            [100 * fmean(scores[at]) for at in there],
            yerr=[100 * stdev(scores[at]) if len(scores[at]) > 1 else 0.0 for at in there],
            label=title,
            capsize=3,
            **style.mark(place),
        )


def main() -> None:
    """Write the page and its picture."""
    files = (RESULTS, adapters.OUT, privacy_norms.OUT)
    results, of_adapters, norms = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    PAGE.write_text(page(results, of_adapters, norms), encoding="utf-8")
    draw(results, of_adapters)


if __name__ == "__main__":
    main()
