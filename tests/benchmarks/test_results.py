"""What the committed results say still meets what was promised, and the archive is what its numbers say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def result(name):
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def test_an_upload_of_slopes_takes_few_bytes():
    """13 slopes take under 200 bytes a client besides the exact head, a single one under 64."""
    besides = {row["mode"]: row["upload_besides_exact_head"] for row in result("wire")["traffic"]}
    assert besides["slopes up and down (Spry)"] < 200
    assert besides["slopes up and down, per iteration"] < 64


def test_replay_is_cheap_and_the_servers_memory_does_not_grow():
    found = result("wire")
    assert all(row["ratio"] < 0.05 for row in found["replay"])
    assert all(0.95 < row["ratio"] < 1.05 for row in found["absorb"])


@pytest.mark.parametrize("name", ["sst2", "ag_news", "nli", "tweets"])
def test_archived_pages_have_the_accuracies_of_the_archived_numbers(name):
    """Nothing writes these pages any more; their main table still says what the file says."""
    sets = json.loads((ROOT / "research" / "results" / "untrained_heads.json").read_text(encoding="utf-8"))[
        "sets"
    ]
    lines = (ROOT / "docs" / "results" / "archive" / f"{name}.md").read_text(encoding="utf-8").splitlines()
    table = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in reversed(lines) if " | " in line}
    ways = {"": "alpha-1", ", averaged, rank 16": "alpha-1-rank-16"}
    for said, condition in ways.items():
        rows = {row["method"]: row for row in sets[name][condition]["rows"]}
        for method in ("fedavg + checkpointing", "spry_block", "head_only_block"):
            row = rows[method.partition(" ")[0]]
            told = f"{100 * row['accuracy_mean']:.1f} ± {100 * row['accuracy_std']:.1f}"
            assert table[method + said][1] == told
