"""A report says which round a run kept, and why it ended early."""

from __future__ import annotations

import pytest
from tests.report.made import MadeRun

from spry.report import details
from spry.report.curves import draw_curves
from spry.report.groups import group_runs
from spry.report.page import write_report
from spry.report.read import read_run, read_runs


def test_the_kept_round_is_marked_in_table_and_curve(tmp_path):
    folder = MadeRun(kept_after=10, validated=True).write(tmp_path / "run")
    run = read_run(folder)
    assert [row[0].text for row in details.evaluations(run).rows] == ["5", "10 (kept)", "15", "20"]
    (section,), _ = group_runs([run])
    rings = [line for line in draw_curves(section).axes[0].lines if line.get_markerfacecolor() == "none"]
    assert [line.get_xydata().tolist() for line in rings] == [
        [[10, pytest.approx(100 * run.rounds[9]["test_accuracy"])]]
    ]
    assert [line.get_label() for line in rings] == ["the round that is kept"]
    page = write_report([folder], tmp_path / "report").page.read_text(encoding="utf-8")
    assert "Kept: the weights after round 10 of 20, which have the best validation accuracy" in page


def test_why_a_run_ended_early_is_told(tmp_path):
    run = read_run(MadeRun(rounds=10, stopped_early="no better validation accuracy").write(tmp_path / "run"))
    assert details.chosen(run) == ["Ended early: no better validation accuracy."]


def test_nothing_is_marked_where_nothing_was_chosen(tmp_path):
    (run,) = read_runs([MadeRun().write(tmp_path / "run")])
    assert run.kept_after is None
    assert details.chosen(run) == []
    assert [row[0].text for row in details.evaluations(run).rows] == ["5", "10", "15", "20"]
