"""A task that is judged by a score that is to be low: order, marks, words and axes follow."""

from __future__ import annotations

import json

import pytest
from tests.report.made import MadeRun

from spry.report import comparison
from spry.report.curves import draw_curves
from spry.report.groups import group_runs
from spry.report.outcome import outcome_table
from spry.report.page import write_report
from spry.report.read import read_run, read_runs
from spry.report.tradeoff import draw_tradeoff


def regression(method: str, reaches: float, **changes) -> MadeRun:
    return MadeRun(
        method=method, score="rmse", higher_is_better=False, baseline=1.25, reaches=reaches, **changes
    )


@pytest.fixture
def folder(tmp_path):
    """Two methods on a regression; spry ends at the lower error."""
    regression("spry", 0.21).write(tmp_path / "spry-s0")
    regression("fedavg", 0.35).write(tmp_path / "fedavg-s0")

    def value(mean):
        return {"score_mean": mean, "score_std": 0.0}

    rows = [{"method": name, "seeds": [0], "checkpointing": None} for name in ("spry", "fedavg")]
    after = {"spry": [value(0.3), value(0.213)], "fedavg": [value(0.36), value(0.35)]}
    view = [
        {"method": name, "peak_bytes_above_model": 1, "fits": True, "within_operations": seen[-1],
         "within_cpu_seconds": seen[-1], "within_bytes_per_client": seen[-1], "within_all": seen[-1]}
        for name, seen in after.items()
    ]  # fmt: skip
    budget = {"peak_bytes_above_model": None, "operations": 1.0, "cpu_seconds": 1.0, "bytes_per_client": 1.0}
    reached = {"seeds": 1, "rounds": 2.0, "operations": 1.0, "cpu_seconds": 1.0, "client_seconds": 1.0,
               "bytes_per_client": 1.0}  # fmt: skip
    views = {
        "equal_rounds": {"rounds": [10, 20], "rows": [{"method": n, "after": a} for n, a in after.items()]},
        "budget": {"budget": budget, "rows": view},
        "target": {"target": 0.3605, "rows": [{"method": name, "reached": 1, **reached} for name in after]},
    }
    score = {"name": "rmse", "higher_is_better": False}
    document = {"schema": 3, "score": score, "rows": rows, "views": views, "tuning": None}
    (tmp_path / "comparison.json").write_text(json.dumps(document))
    return tmp_path


def test_the_lowest_error_is_the_best(folder):
    (section,), _ = group_runs(read_runs([folder]))
    table = outcome_table(section)
    assert table.columns[1:4] == ("test rmse", "generalized", "personalized")
    assert [row[0].text for row in table.rows] == ["without training", "spry", "fedavg + checkpointing"]
    assert table.rows[0][1].text == "1.25"
    assert [row[1].best for row in table.rows] == [False, True, False]
    assert 0.2 < float(table.rows[1][1].text) < 0.25


def test_the_tables_of_a_comparison_mark_the_lowest_too(folder):
    rounds, budget, target = comparison.comparison_tables(folder)
    assert (rounds.title, budget.title) == (
        "Test rmse after equal rounds",
        "Best test rmse within equal budgets",
    )
    assert target.title == "Cost of reaching a test rmse of 0.3605"
    assert [cell.best for cell in rounds.rows[0]] == [False, True, True]
    assert [cell.best for cell in budget.rows[1]] == [False] * 6
    assert rounds.rows[0][-1].text == "0.213"


def test_axes_name_the_score_and_which_way_is_good(folder):
    (section,), _ = group_runs(read_runs([folder]))
    curves, dots = draw_curves(section), draw_tradeoff(section)
    for axes in (curves.axes[0], dots.axes[0]):
        assert axes.get_ylabel() == "test rmse, lower is better"
        assert axes.get_ylim()[1] < 2.0  # as it is, not in percent
    labels = [line.get_label() for line in dots.axes[0].get_lines()]
    assert "without training" in labels
    heights = [
        line.get_ydata()[0] for line in dots.axes[0].get_lines() if line.get_label() == "without training"
    ]
    assert heights == [1.25]


def test_the_page_speaks_of_the_score_and_of_nothing_else(folder):
    page = write_report([folder], folder / "report", comparison.comparison_tables(folder)).page.read_text()
    text = page[page.index("<body>") :]
    assert "down is better, left is cheaper" in text
    assert "lowest scores, which are the best, are bold" in text
    assert "Rmse and training loss against rounds" in text
    assert "ccuracy" not in text
    assert "(%)" not in text


def test_runs_judged_by_different_scores_stay_apart(tmp_path):
    runs = [MadeRun(), regression("spry", 0.3, seed=1)]
    found, _ = group_runs(read_runs([run.write(tmp_path / str(k)) for k, run in enumerate(runs)]))
    assert [section.score.name for section in found] == ["accuracy", "rmse"]


@pytest.mark.parametrize(("name", "higher"), [("rmse", False), ("accuracy", True), ("bleu", True)])
def test_a_run_in_progress_is_judged_by_what_its_log_names(tmp_path, name, higher):
    folder = MadeRun(score=name, higher_is_better=higher, finished=False).write(tmp_path / "run")
    run = read_run(folder)
    assert (run.score.name, run.score.higher_is_better) == (name, higher)
    assert run.outcome[f"test_{name}"] is not None
