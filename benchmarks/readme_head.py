"""The table of heads before round 1, beside other fits to the same features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from convergence_data import SETS
from readme_layout import origin, table

FITS = ("closed form", "logistic regression", "closed form, OAS")
TITLES = {"closed form, OAS": "closed form, covariance shrunk by OAS"}


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
    return (
        table(["data", "clients", "examples", *kinds], rows)
        + f"\n\n{note} {origin(result, 'benchmarks/head.py')}"
    )


def _row(title: str, clients: str, draws: Sequence[Mapping[str, Any]]) -> list[str]:
    examples = fmean(draw["train_examples"] for draw in draws)
    return [title, clients, f"{examples:.0f}", *(_scores(draws, fit) for fit in FITS)]


def _scores(draws: Sequence[Mapping[str, Any]], fit: str) -> str:
    accuracies = [100 * draw["fits"][fit]["test_accuracy"] for draw in draws]
    loss = fmean(draw["fits"][fit]["test_loss"] for draw in draws)
    spread = f" ± {stdev(accuracies):.1f}" if len(accuracies) > 1 else ""
    return f"{fmean(accuracies):.1f}{spread}, {loss:.3f}"
