"""Run folders and comparisons as version 0.1 wrote them are still read, with the words and marks of today."""

from __future__ import annotations

import json

import pytest

from spry.report.comparison import comparison_tables
from spry.report.details import units
from spry.report.groups import group_runs
from spry.report.outcome import outcome_table
from spry.report.page import write_report
from spry.report.read import read_runs
from spry.tasks.score import Score

CONFIG = """
seed = 0

[model]
name = "minilm"
dtype = "float32"
device = "cpu"
max_length = 32
dropout = false

[peft]
kind = "lora"
basis = "weight"
rank = 16
alpha = 4.0
dropout = 0.0
targets = []
head = "block"

[data]
name = "tweets"
text = ["text"]
label = "label"
partition = "PARTITION"
alpha = 1.0
column = "author"
clients = 100
held_out = 0.2
validation = 0.0

[method]
name = "METHOD"
estimator = "weight"
amplitudes = "calibrated"
tied = false
directions = "gaussian"
count = 1
count_growth = 1
sleep = true
control_variate = "none"
control_decay = 0.9
checkpoint = true
exact_head = true
slopes_only = false
downlink = "weights"
budgets = []

[client]
batch_size = 8
batch_growth = 1
epochs = 1
steps = 2

[server]
average = 0

[schedule]
rounds = 2
phases = 1
clients_per_round = 10
evaluate_every = 2
checkpoint_every = 8
personalized = true

[methods.fedavg.client]
optimizer = "adamw"
lr = 0.01

[tune]
seed = 100
validation = 0.1
"""


def client(number):
    return {
        "client": number, "units": ["bert.encoder.layer.0.attention.self.query"], "examples": 80, "steps": 2,
        "loss": 0.7, "bytes_up": 5000, "bytes_down": 40000, "seconds": 0.3, "peak_bytes_above_model": 2000000,
        "failed": None,
    }  # fmt: skip


def entry(number, accuracy):
    return {
        "round": number, "loss": 0.7, "test_accuracy": accuracy, "test_loss": accuracy and 1 - accuracy,
        "generalized_accuracy": accuracy and accuracy - 0.01, "personalized_accuracy": accuracy and accuracy + 0.02,
        "seconds": 0.7, "client_seconds": 0.6, "peak_bytes_above_model": 2000000, "bytes_up": 10000,
        "bytes_down": 80000, "failed_replies": 0, "idle_units": ["bert.encoder.layer.1.attention.self.value"],
        "clients": [client(3), client(5)],
    }  # fmt: skip


def summary(method, accuracy):
    return {
        "method": method, "model": "minilm", "dataset": "tweets", "seed": 0, "rounds": 2, "test_accuracy": accuracy,
        "generalized_accuracy": accuracy - 0.01, "personalized_accuracy": accuracy + 0.02, "majority_accuracy": 0.424,
        "peak_bytes_above_model": 2000000, "seconds_per_round": 0.7, "client_seconds_per_round": 0.6,
        "bytes_up_per_client_round": 5000.0, "bytes_down_per_client_round": 40000.0, "failed_replies": 0,
        "trainable_weights": 185090, "auto": None,
    }  # fmt: skip


def value(mean):
    return {"accuracy_mean": mean, "accuracy_std": 0.0}


def row(method, accuracy):
    return {
        "method": method, "seeds": [0], **value(accuracy), "generalized_accuracy_mean": accuracy - 0.01,
        "personalized_accuracy_mean": accuracy + 0.02, "majority_accuracy": 0.424, "peak_bytes_above_model": 2000000,
        "seconds_per_round": 0.7, "client_seconds": 0.6, "bytes_up_per_client_round": 5000.0,
        "bytes_down_per_client_round": 40000.0, "algorithm": method, "checkpointing": method == "fedavg" or None,
    }  # fmt: skip


ACCURACIES = {"spry": 0.61, "fedavg": 0.65}
COMPARISON = {
    "rows": [row(*item) for item in ACCURACIES.items()],
    "views": {
        "equal_rounds": {
            "rounds": [2],
            "rows": [{"method": name, "after": [value(mean)]} for name, mean in ACCURACIES.items()],
        },
        "budget": {
            "budget": {"peak_bytes_above_model": None, "client_seconds": 1.2, "bytes_per_client": 90000.0},
            "rows": [
                {"method": name, "peak_bytes_above_model": 2000000, "fits": True, "within_seconds": value(mean),
                 "within_bytes": value(mean), "within_all": None}
                for name, mean in ACCURACIES.items()
            ],
        },
        "target": {
            "target": 0.6305,
            "rows": [
                {"method": name, "seeds": 1, "reached": int(mean > 0.63), "rounds": 2.0, "client_seconds": 1.2,
                 "bytes_per_client": 90000.0}
                for name, mean in ACCURACIES.items()
            ],
        },
    },
    "tuning": {
        "seed": 100, "rounds": 2, "validation": 0.1, "points": 1,
        "methods": {
            name: {"points": [{"settings": {"client.lr": 0.1}, "accuracy": mean, "loss": 0.6}],
                   "chosen": {"client.lr": 0.1}, "at_edge": []}
            for name, mean in ACCURACIES.items()
        },
    },
}  # fmt: skip


@pytest.fixture(params=["dirichlet", "column"])
def folder(request, tmp_path):
    for method, accuracy in ACCURACIES.items():
        run = tmp_path / f"{method}-s0"
        run.mkdir()
        text = CONFIG.replace("METHOD", method).replace("PARTITION", request.param)
        (run / "config.toml").write_text(text)
        (run / "meta.json").write_text(json.dumps({"date": "2025-11-21T10:00:00+00:00", "command": ["spry"]}))
        lines = [entry(0, None), entry(1, accuracy)]
        (run / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (run / "summary.json").write_text(json.dumps(summary(method, accuracy)))
    (tmp_path / "comparison.json").write_text(json.dumps(COMPARISON))
    return tmp_path


def test_old_runs_are_judged_by_their_accuracy(folder):
    (section,), _ = group_runs(read_runs([folder]))
    assert section.score == Score(name="accuracy", baseline=0.424)
    table = outcome_table(section)
    assert [row[0].text for row in table.rows] == ["commonest answer", "spry", "fedavg + checkpointing"]
    assert [row[1].text for row in table.rows] == ["42.4", "61.0", "65.0"]
    assert [row[1].best for row in table.rows] == [False, False, True]


def test_old_logs_keep_their_units(folder):
    (run, _) = read_runs([folder])
    rows = [[cell.text for cell in row] for row in units(run).rows]
    assert [row[1:] for row in rows] == [["4", "0"], ["0", "2"]]


def test_an_old_comparison_has_its_tables(folder):
    rounds, budget, target, tuning = comparison_tables(folder)
    assert [row[1].text for row in rounds.rows] == ["61.0", "65.0"]
    assert [row[1].best for row in budget.rows] == [False, True]
    assert target.title == "Cost of reaching a test accuracy of 63.0 %"
    assert [row[2].text for row in target.rows] == ["–", "–"]
    assert [row[5].text for row in target.rows] == ["–", "1.20 s"]
    assert budget.columns == ("method", "within 87.9 KiB per client", "peak memory above the model")
    assert "0.1: 65.0" in tuning.rows[1][2].text


def test_the_page_of_old_runs(folder):
    page = write_report([folder], folder / "report", comparison_tables(folder)).page.read_text()
    by_column = "partition = &#34;column&#34;" in page
    assert ("clients (by column author), 10 a round" in page) == by_column
    assert ("100 clients (Dirichlet 1.0), 10 a round" in page) == (not by_column)
    assert "100 clients (by column" not in page  # the setting is not what the run had
