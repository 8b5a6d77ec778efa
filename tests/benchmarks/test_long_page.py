"""The page of long runs is what its results say; each of its rows can be configured."""

from __future__ import annotations

import pytest
from benchmarks.long_page import PAGE, PICTURE, page
from benchmarks.long_runs import LONG, RESULTS, ROUNDS, configured
from benchmarks.results_file import read

from spry.experiment.build import check_settings


def test_the_committed_page_is_written_from_the_results():
    found = read(RESULTS)
    assert PAGE.read_text(encoding="utf-8") == page(found["runs"], found["trials"]), (
        "run python -m benchmarks.long_page"
    )
    assert PICTURE.is_file()


def test_gaps_are_of_the_same_seeds_at_the_end():
    def run(row, seed, end):
        made = {"date": "2026-01-01", "versions": {}, "machine": {"cpus": 2}, "commit": "abc"}
        curve = [[0, 0.5], [64, 0.6], [256, 0.6], [512, 0.6], [1024, end]]
        return {
            "row": row, "seed": seed, "lr": 0.01, "curve": curve, "trainable_weights": 96,
            "bytes_up_per_client_round": 50.0, "provenance": made,
        }  # fmt: skip

    def trial(row, lr, accuracy):
        return {**run(row, 0, accuracy), "lr": lr, "validation_loss": 0.5}

    runs = [run("fedavg", 0, 0.8), run("spry", 1, 0.1), run("spry", 0, 0.7), run("fedmezo", 0, 0.65)]
    trials = [trial(row, 0.01, 0.6) for row in ("fedavg", "spry", "fedmezo")]
    text = page([*runs, {**run("spry", 0, 0.99), "lr": 0.03}], [*trials, trial("spry", 0.03, 0.59)])
    assert "With LoRA of rank 1, Spry ends +5.0 points from FedMeZO and -10.0 from FedAvg." in text
    assert "With few dimensions" not in text
    assert (
        "| Spry, LoRA, another step size | 0.03 | 96 | 1 | 50.0 | 60.0 | 60.0 | 60.0 | 99.0 | 50 B |" in text
    )
    assert "| FedAvg, LoRA | 0.01 | 96 | 1 | 50.0 | 60.0 | 60.0 | 60.0 | 80.0 | 50 B |" in text


@pytest.mark.parametrize("row", LONG)
def test_every_row_can_be_configured(row, tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.long_runs.files", lambda *given: {})
    config = configured({"row": row, "seed": 0, "lr": 0.01}, tmp_path, tmp_path)
    check_settings(config.with_settings({"schedule.rounds": ROUNDS}))
    assert config.step_factors.head == 0 and config.peft.exact == "head"
