"""What commands print as tables fits 80 columns, on a terminal or not, and nothing of it is cut."""

from __future__ import annotations

import pytest
from tests.cli.test_memory import asked  # ruff: ignore[unused-import]

from spry.profile import budget
from spry.profile.budget import Fit


def check(text, *words):
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize("command", ["methods", "datasets"])
def test_catalogs(spry, command):
    rows = spry(command, "--json").document
    words = [word for row in rows for word in " ".join(map(str, (row["name"], row["about"]))).split()]
    check(spry(command).out, *words)


def test_memory(spry, asked):  # ruff: ignore[redefined-while-unused]
    methods = "inference,spry,backprop"
    check(spry("memory", "--method", methods).out, "98 MiB", "1.81", "ratios", "2e-06")


def test_a_memory_budget(spry, monkeypatch):
    fits = [
        Fit(method="backprop+checkpointing", slice="all", micro_batch=0, predicted_bytes=123 << 30),
        Fit(method="spry", slice="last", micro_batch=128, predicted_bytes=1 << 30, measured_bytes=999 << 20, fits=True),
    ]  # fmt: skip
    monkeypatch.setattr(budget, "what_fits", lambda *_: iter(fits))
    check(spry("memory", "--budget", "2GB").out, "does not fit", "123 GiB", "999 MiB", "128")


def test_check(spry, tiny_model):
    check(spry("check", tiny_model).out, "layer.0.attention.self.query", "head", "bert.encoder")


def test_runs_and_comparisons(spry, tiny_config):
    options = ["--methods", "fedavg", "--seeds", "0", "--set", "schedule.rounds=1", "--out", "all"]
    check(
        spry("compare", tiny_config, *options).out,
        "checkpointing",
        "after",
    )
    check(spry("report", "all").out, "within", "all")
    check(spry("run", tiny_config, "--set", "schedule.rounds=1").out, "commonest", "FLOP")
