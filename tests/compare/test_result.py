"""What ``comparison.json`` says, from run folders made by hand and judged by a score that is to be low."""

from __future__ import annotations

import pytest
from tests.report.made import MadeRun

from spry.compare.costs import Budget
from spry.compare.result import read_result
from spry.compare.tune import rank_points
from spry.experiment.config import Config
from spry.tasks.score import Score

RMSE = {"score": "rmse", "higher_is_better": False, "baseline": 1.25}
METHODS = {"head_only": 0.1, "fedavg": 0.3, "fedsgd": 0.2}


@pytest.fixture
def parts(tmp_path):
    """Three methods of two seeds each, the last round evaluated; head_only, which is no rival, has the lowest error."""
    folders = {
        name: [
            MadeRun(method=name, seed=seed, reaches=reaches, **RMSE).write(tmp_path / f"{name}-s{seed}")
            for seed in (0, 1)
        ]
        for name, reaches in METHODS.items()
    }
    return {name: Config().for_method(name, 0) for name in METHODS}, folders


def test_the_target_is_a_little_above_the_lowest_error_of_backpropagating_rivals(parts):
    found = read_result(*parts, Budget(), None)
    rows = {row["method"]: row for row in found["rows"]}
    assert found["score"] == {"name": "rmse", "higher_is_better": False}
    assert rows["head_only"]["score_mean"] < rows["fedsgd"]["score_mean"] < rows["fedavg"]["score_mean"]
    assert found["views"]["target"]["target"] == pytest.approx(1.03 * rows["fedsgd"]["score_mean"])
    reached = {row["method"]: row["reached"] for row in found["views"]["target"]["rows"]}
    assert reached == {"head_only": 2, "fedavg": 0, "fedsgd": reached["fedsgd"]}
    assert reached["fedsgd"] > 0
    assert rows["fedavg"]["baseline"] == pytest.approx(1.25)
    assert rows["fedavg"]["checkpointing"] is True
    assert rows["head_only"]["checkpointing"] is None


def test_a_target_that_is_given_counts(parts):
    assert read_result(*parts, Budget(), 0.25)["views"]["target"]["target"] == pytest.approx(0.25)


def test_the_best_point_of_a_grid_has_the_lowest_error_and_then_the_lowest_loss():
    tried = [{"score": 0.3, "loss": 1.0}, {"score": None, "loss": None}, {"score": 0.2, "loss": 2.0},
             {"score": 0.2, "loss": 1.0}]  # fmt: skip
    assert rank_points(tried, Score(name="rmse", higher_is_better=False)) == [tried[3], tried[2], tried[0]]
    assert rank_points(tried, Score(name="accuracy")) == [tried[0], tried[3], tried[2]]
