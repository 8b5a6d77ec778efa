"""The page of accuracy against epsilon is what its results say; no run spent more than its budget."""

from __future__ import annotations

import json

import torch
from benchmarks import privacy_norms
from benchmarks.privacy import DELTA, RESULTS, MapTask, RowsLoss
from benchmarks.privacy_adapters import OUT
from benchmarks.privacy_features import Rows
from benchmarks.privacy_page import PAGE, PICTURE, page

RECORDED, ADAPTERS, NORMS = (
    json.loads(file.read_text(encoding="utf-8")) for file in (RESULTS, OUT, privacy_norms.OUT)
)


def test_the_committed_page_is_written_from_the_results():
    assert PAGE.read_text(encoding="utf-8") == page(RECORDED, ADAPTERS, NORMS), (
        "run python -m benchmarks.privacy_page"
    )
    assert PICTURE.is_file()


def test_no_run_spent_more_than_its_budget():
    for run in [*RECORDED["runs"], *ADAPTERS["runs"]]:
        assert (
            run["spent"] is None
            if run["epsilon"] is None
            else 0.98 * run["epsilon"] < run["spent"] <= run["epsilon"]
        )
    assert RECORDED["delta"] == DELTA


def test_accuracy_counts_what_the_larger_score_says():
    rows = Rows(torch.eye(2), torch.tensor([0, 0]))
    weights = {"weight": torch.eye(2), "bias": torch.zeros(2)}
    hits = MapTask(2).evaluate(weights, [rows])
    assert hits.values() == {"accuracy": 0.5} and hits.examples == 2
    torch.testing.assert_close(torch.tensor(hits.loss), RowsLoss(rows)(weights))
