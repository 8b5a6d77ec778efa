"""Writes docs/results/privacy.md and its picture from benchmarks/results/privacy.json.

python -m benchmarks.privacy_page
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import matplotlib as mpl
from benchmarks.privacy import EPSILONS, METHOD_NAMES, RESULTS, TUNING_SEED
from benchmarks.readme_layout import machine_of, table

from spry.report import style

PAGE, PICTURE = Path("docs/results/privacy.md"), Path("docs/pictures/privacy.png")
Results = Mapping[str, Any]


def page(results: Results) -> str:
    """The page that results give."""
    return (
        "\n\n".join([
            _introduction(results),
            f"![Accuracy against epsilon](../pictures/{PICTURE.name})",
            _table(results),
            _rows(results),
            _reading(results),
        ])
        + "\n"
    )


def _introduction(results: Results) -> str:
    return (
        "# Accuracy against epsilon\n\n"
        f"SST-2, {results['clients']:,} clients of {results['examples_per_client']} training texts each, "
        f"{results['test_examples']} test texts. Clients are hidden from whoever sees the models (central noise), "
        f"at delta {results['delta']:g}. MiniLM is frozen and the last map of its head is trained, so these "
        "are small models; adapters were not run. Features are centred and scaled by those of public texts (SNLI).\n"
        "`python -m benchmarks.privacy` makes the runs, `python -m benchmarks.privacy_page` this page. "
        "[Privacy](../privacy.md) says what is hidden."
    )


def _table(results: Results) -> str:
    columns = ["epsilon", *METHOD_NAMES.values()]
    rows = [[_name(epsilon), *(_cell(results, m, epsilon) for m in METHOD_NAMES)] for epsilon in _budgets()]
    return table(columns, rows) + (
        f"\n\nTest accuracy in percent: mean and sample deviation over seeds {_seeds(results)}, or of one seed where "
        f"there is no deviation. The standard error of the test part is {_standard_error(results):.1f} points; its "
        f"larger class has {100 * results['larger_class']:.1f} %."
    )


def _name(epsilon: float | None) -> str:
    return "none: clipped only" if epsilon is None else f"{epsilon:g}"


def _rows(results: Results) -> str:
    rate, dimensions = results["asked"] / results["clients"], 2 * results["fewer_features"] + 2
    return (
        f"- *DP-FedAvg* takes {results['local_steps']} local steps on all {2 * results['features'] + 2} weights: "
        f"{results['rounds']} rounds of about {results['asked']} clients, each asked with chance {rate:g}; updates are "
        f"shortened to {results['clip']:g}.\n"
        f"- *Slopes alone* is `spry_per_iteration`: {results['directions']} shared directions a round in {dimensions} "
        f"dimensions, a linear map of {results['fewer_features']} random combinations of the features. As many clients "
        "and rounds; a client's slopes together are shortened to the same.\n"
        "- *Closed form* takes sums of all clients once and solves, without rounds."
    )


def _reading(results: Results) -> str:
    *others, last = (f"{lr:g}" for lr in results["step_sizes"])
    sizes = f"{', '.join(others)} and {last}"
    lost = ", ".join(f"{name} {_lost(results, method):.1f}" for method, name in METHOD_NAMES.items())
    return (
        f"Points lost from no noise to epsilon {EPSILONS[0]:g}: {lost}. The first two have few rounds, and "
        "are not at their end. Noise in fewer dimensions costs less, and fewer dimensions say less. "
        "Differences below the standard error say nothing.\n\n"
        f"The server's step size of the first two was chosen of {sizes} at epsilon {results['tuned_at']:g}, by "
        f"accuracy on the same test part under seed {TUNING_SEED}; that choice is not private. Seeds differ in "
        "dealing, sampling and noise.\n\n"
        f"{machine_of(results)}, which other jobs shared; torch {results['versions']['torch']}, "
        f"{results['date'][:10]}, commit {results['commit'][:7]}."
    )


def _lost(results: Results, method: str) -> float:
    exact, noised = (_scores(results, method, epsilon) for epsilon in (None, EPSILONS[0]))
    return fmean(exact) - fmean(noised)


def _budgets() -> list[float | None]:
    return [None if epsilon == float("inf") else epsilon for epsilon in EPSILONS]


def _scores(results: Results, method: str, epsilon: float | None) -> list[float]:
    return [
        100 * run["accuracy"]
        for run in results["runs"]
        if run["method"] == method and run["epsilon"] == epsilon and run["seed"] != TUNING_SEED
    ]


def _cell(results: Results, method: str, epsilon: float | None) -> str:
    found = _scores(results, method, epsilon)
    if not found:
        return "–"
    return f"{fmean(found):.1f}" + (f" ± {stdev(found):.1f}" if len(found) > 1 else "")


def _seeds(results: Results) -> str:
    return ", ".join(str(seed) for seed in sorted({run["seed"] for run in results["runs"]} - {TUNING_SEED}))


def _standard_error(results: Results) -> float:
    return 100 * (0.25 / results["test_examples"]) ** 0.5


def draw(results: Results) -> None:
    """Draw accuracy against epsilon, with the runs without noise at the right end."""
    budgets = _budgets()
    with mpl.rc_context(style.LOOK):
        made = style.figure(6.4, 4.2)
        axes = made.subplots()
        for place, (method, name) in enumerate(METHOD_NAMES.items()):
            found: Sequence[list[float]] = [_scores(results, method, epsilon) for epsilon in budgets]
            axes.errorbar(
                range(len(budgets)),
                [fmean(scores) for scores in found],
                yerr=[stdev(scores) if len(scores) > 1 else 0.0 for scores in found],
                label=name,
                capsize=3,
                **style.mark(place),
            )
        axes.axhline(100 * results["larger_class"], **style.BASELINE_LINE)
        axes.set_xticks(range(len(budgets)), ["no noise" if e is None else f"{e:g}" for e in budgets])
        axes.set_xlabel(f"epsilon at delta {results['delta']:g}")
        axes.set_ylabel("test accuracy, %")
        style.legend(made, axes, "outside lower center", columns=3)
        style.write_png(made, PICTURE)


def main() -> None:
    """Write the page and its picture."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    PAGE.write_text(page(results), encoding="utf-8")
    draw(results)


if __name__ == "__main__":
    main()
