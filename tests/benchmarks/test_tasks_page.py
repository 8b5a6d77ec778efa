"""The page of other tasks is what its results say; each case that it names can be configured."""

from __future__ import annotations

import pytest
from benchmarks.results_file import add, known, read
from benchmarks.tasks import CASES, FOLDER, RESULTS, ROWS
from benchmarks.tasks_page import PAGE, page, picture

from spry.experiment.build import check_settings
from spry.experiment.config import read_config


def test_the_committed_page_is_written_from_the_results():
    runs = read(RESULTS)["runs"]
    assert PAGE.read_text(encoding="utf-8") == page(runs), "run python -m benchmarks.tasks_page"
    assert all(picture(run["case"]).is_file() for run in runs)


def test_costs_are_multiples_of_fedavgs_and_a_score_is_the_mean_over_seeds():
    def run(row, seed, end, cost):
        score = {"name": "perplexity", "baseline": 500.0}
        curve = [{"round": n, "test_perplexity": p, "test_loss": 1.0} for n, p in ((0, 20.0), (4, end))]
        costs = {
            "operations_per_client_round": cost,
            "client_cpu_seconds": cost,
            "peak_bytes_above_model": cost,
        }
        made = {"date": "2026-01-01", "versions": {}, "machine": {"cpus": 2}, "commit": "abc"}
        place = {"case": "instructions", "row": row, "seed": seed}
        return {**place, "curve": curve, "score": score, "provenance": made, **costs}

    text = page([run("mlp", 0, 4.0, 5e9), run("mlp", 1, 6.0, 5e9), run("fedavg", 0, 3.0, 1e10)])
    assert "| mlp | 2 | 20 | 5 | 1.000 | 0.50 x | 0.50 x | 0.50 x |" in text
    assert "An answer that needs no model: 500." in text


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("case", CASES)
def test_every_run_can_be_configured(case, row):
    config = read_config(FOLDER / f"{case}.toml").with_settings(ROWS[row].settings)
    check_settings(config)
    assert all(getattr(config.client, key) is not None for key in ("optimizer", "lr", "steps"))


def test_a_file_of_results_grows(tmp_path):
    file = tmp_path / "results.json"
    assert not known(file, "runs", {"row": "a"})
    add(file, "runs", {"row": "a", "seed": 0})
    add(file, "trials", {"row": "b"})
    assert known(file, "runs", {"row": "a"}) and not known(file, "runs", {"row": "a", "seed": 1})
    assert read(file) == {"trials": [{"row": "b"}], "runs": [{"row": "a", "seed": 0}]}
