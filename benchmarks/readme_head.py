"""The table of heads before round 1, beside other fits to the same features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from comparison_words import DASH
from convergence_data import SETS
from readme_layout import origin, table

FITS = ("closed form", "logistic regression", "closed form, OAS", "closed form, random features")
TITLES = {
    "closed form, OAS": "covariance shrunk by OAS",
    "closed form, random features": "of 64 random combinations",
}
NEAR = 0.5
"""Points that the closed form may be apart from logistic regression."""


def heads(result: dict[str, Any]) -> str:
    """Test accuracy and loss of each fit, for all clients and for draws of few."""
    rows = [
        _row(SETS[name].title, clients, draws)
        for name, found in result["sets"].items()
        for clients, draws in (*found["few"].items(), (str(result["clients"]), [found]))
    ]
    kinds = [TITLES.get(fit, fit) for fit in FITS]
    note = (
        f"Features of {result['model']}, {result['clients']} clients (Dirichlet 1.0). Test accuracy in percent, test "
        "loss; of some clients means over three draws, and the accuracies' deviation. The decay of logistic regression "
        "has the least loss on a fifth of the examples that is left out."
    )
    parts = [
        table(["data", "clients", "examples", *kinds], rows),
        f"{note} {origin(result, 'benchmarks/head.py')}",
        _verdict(result),
        _bytes(result),
    ]
    return "\n\n".join(parts)


def _verdict(result: Mapping[str, Any]) -> str:
    """How far the closed form is from logistic regression, of all clients."""
    said = []
    for name, found in result["sets"].items():
        apart = 100 * (_accuracy(found, "closed form") - _accuracy(found, "logistic regression"))
        verdict = "above" if apart > NEAR else "met" if apart >= -NEAR else "**missed**"
        said.append(f"{SETS[name].title} {apart:+.1f}, {verdict}")
    return (
        f"Asked was at most {NEAR} points from logistic regression on the same features, with all clients: "
        f"{'; '.join(said)}. Each is a fit of its own to the same features; which one is ahead depends on the data."
    )


def _bytes(result: Mapping[str, Any]) -> str:
    """What fewer features save, and what they cost."""
    whole, fewer = (
        [found["fits"][fit]["bytes_up_per_client"] / 1000 for found in result["sets"].values()]
        for fit in ("closed form", "closed form, random features")
    )
    lost = [
        100 * (_accuracy(found, "closed form") - _accuracy(found, "closed form, random features"))
        for found in result["sets"].values()
    ]
    return (
        f"A client sends {min(whole):.0f} to {max(whole):.0f} kB for its sums, and {min(fewer):.0f} to "
        f"{max(fewer):.0f} kB for those of 64 random combinations (`head.features`), which loses {min(lost):.1f} to "
        f"{max(lost):.1f} points here."
    )


def _accuracy(found: Mapping[str, Any], fit: str) -> float:
    return found["fits"][fit]["test_accuracy"]


def _row(title: str, clients: str, draws: Sequence[Mapping[str, Any]]) -> list[str]:
    examples = fmean(draw["train_examples"] for draw in draws)
    return [title, clients, f"{examples:.0f}", *(_scores(draws, fit) for fit in FITS)]


def _scores(draws: Sequence[Mapping[str, Any]], fit: str) -> str:
    if any(fit not in draw["fits"] for draw in draws):
        return DASH
    accuracies = [100 * draw["fits"][fit]["test_accuracy"] for draw in draws]
    loss = fmean(draw["fits"][fit]["test_loss"] for draw in draws)
    spread = f" ± {stdev(accuracies):.1f}" if len(accuracies) > 1 else ""
    return f"{fmean(accuracies):.1f}{spread}, {loss:.3f}"
