"""What the committed results say still meets what was promised, and the tables can be written from them."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def result(name):
    return json.loads((FOLDER / "results" / f"{name}.json").read_text(encoding="utf-8"))


def test_an_upload_of_slopes_takes_few_bytes():
    """13 slopes take under 200 bytes a client besides the exact head, a single one under 64."""
    besides = {row["mode"]: row["upload_besides_exact_head"] for row in result("wire")["traffic"]}
    assert besides["slopes up and down (Spry)"] < 200
    assert besides["slopes up and down, per iteration"] < 64


def test_replay_is_cheap_and_the_servers_memory_does_not_grow():
    found = result("wire")
    assert all(row["ratio"] < 0.05 for row in found["replay"])
    assert all(0.95 < row["ratio"] < 1.05 for row in found["absorb"])


TABLES = [
    ("readme_convergence", "main_methods"),
    ("readme_convergence", "every_method"),
    ("readme_convergence", "costs"),
    ("readme_parts", "conditions"),
]


@pytest.mark.parametrize(("module", "table"), TABLES)
def test_tables_of_the_comparison_have_backpropagation_with_checkpointing(module, table, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    write = getattr(importlib.import_module(module), table)
    assert "fedavg + checkpointing" in write(result("convergence"))


@pytest.mark.parametrize("table", ["parts", "weights"])
def test_tables_of_parts_have_a_row_for_each(table, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import readme_parts

    written = getattr(readme_parts, table)(result("convergence"))
    assert all(said in written for said in getattr(readme_parts, table.upper()).values())
