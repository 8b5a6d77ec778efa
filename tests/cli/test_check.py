"""``spry check`` and ``spry memory --budget``, as a user types them."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from spry.cli.app import app


def test_check_a_model_from_a_folder(tiny_model):
    result = CliRunner().invoke(app, ["check", str(tiny_model), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["passed"]
    assert found["attention"] == "sdpa"
    assert len(found["units"]) == 5  # query and value of two layers, and the head
    table = CliRunner().invoke(app, ["check", str(tiny_model), "--no-differences"])
    assert "5 of 5 units passed" in table.output


def test_check_takes_targets(tiny_model):
    options = ["check", str(tiny_model), "--no-differences", "--json", "--targets"]
    result = CliRunner().invoke(app, [*options, "attention.output.dense, key"])
    assert result.exit_code == 0, result.output
    names = [unit["unit"] for unit in json.loads(result.stdout)["units"][:-1]]
    assert len(names) == 4
    assert all(name.endswith(("key", "attention.output.dense")) for name in names)
    assert CliRunner().invoke(app, [*options, "nothing_like_it"]).exit_code != 0


def test_check_fails_for_a_folder_that_is_no_model(tmp_path):
    result = CliRunner().invoke(app, ["check", str(tmp_path)])
    assert result.exit_code != 0


def test_a_budget_says_what_fits():
    options = ["--model", "minilm", "--layers", "1", "--batch", "4", "--length", "16", "--json"]
    result = CliRunner().invoke(app, ["memory", *options, "--method", "spry", "--budget", "200MB"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["budget_bytes"] == 200_000_000
    assert {fit["method"] for fit in found["fits"]} == {"spry"}
    assert all(fit["fits"] for fit in found["fits"])


def test_a_budget_that_is_none_is_answered():
    result = CliRunner().invoke(app, ["memory", "--budget", "lots"])
    assert result.exit_code != 0
    assert "2GB" in str(result.exception) + result.output


@pytest.mark.parametrize(
    "task", ["regression", "multi-label", "multiple-choice", "multi-answer", "question-answering"]
)
def test_check_takes_a_task(tiny_model, task):
    result = CliRunner().invoke(app, ["check", str(tiny_model), "--task", task, "--no-differences", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["passed"] and all(unit["gradient_error"] < 1e-3 for unit in found["units"])


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ("causal-lm", "is no whole causal language model: cls.predictions"),
        ("question-answer", "Did you mean 'question-answering'?"),
    ],
)
def test_check_refuses_a_task_that_cannot_be(tiny_model, task, says):
    result = CliRunner().invoke(app, ["check", str(tiny_model), "--task", task])
    assert result.exit_code != 0 and says in str(result.exception) + result.output
