"""Tables in the pages are those that the committed results give; the table of bytes follows from its rows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def readme(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import readme

    return readme


def test_bytes_are_written_as_people_read_them(readme):
    row = {"mode": "slopes", "bytes_up_per_client_round": 97.4, "bytes_down_per_client_round": 2048.0}
    row |= {"bytes_up_per_client_run": 999.0, "bytes_down_per_client_run": 1e6}
    setting = {
        "peft.rank": 1,
        "data.clients": 100,
        "schedule.clients_per_round": 10,
        "rounds": 100,
        "client.steps": 13,
    }
    made = {"machine": {"cpus": 2, "gpu": None}, "versions": {"torch": "2"}, "date": "2026-01-02T03:04"}
    rows = [{**row, "upload_besides_exact_head": count} for count in (97.8, None, 48.2)]
    server = {"replay": [{"ratio": 0.002}, {"ratio": 0.0088}], "absorb": [{"ratio": 1.0}]}
    text = readme.wire({"traffic": rows, "setting": setting, "provenance": made, **server})
    assert "| slopes | 97 B | 2.0 KiB | 999 B | 976.6 KiB |" in text
    assert "13 slopes takes 98 bytes and one of a single slope 48. Replaying an epoch costs" in text
    assert "at most 0.9 % of the time" in text
    assert "10 of them a round, 100 rounds, 13 local steps" in text


def test_the_pages_have_the_tables_of_the_committed_results(readme, monkeypatch):
    monkeypatch.chdir(FOLDER.parent)
    for page, text in readme.pages().items():
        assert page.read_text(encoding="utf-8") == text, f"run python benchmarks/readme.py: {page}"


def test_what_is_said_of_the_default_recipe_follows_from_its_accuracies(readme):
    def rows(weights):
        return {
            "rows": [
                {
                    "method": name,
                    "seeds": [0, 1],
                    "accuracies": own,
                    "accuracy_mean": sum(own) / 2,
                    "accuracy_std": 0.01,
                }
                | {
                    "peak_bytes_above_model": 1 << 20,
                    "bytes_up_per_client_round": 1024.0,
                    "client_seconds": 2.0,
                }
                for name, own in (("block", [0.5, 0.7]), ("weights", weights), ("activation", [0.6, 0.8]))
            ]
        }

    made = {"machine": {"cpus": 2, "gpu": None}, "versions": {"torch": "2"}, "date": "2026-01-02T03:04"}
    found = {
        "comparisons": {"16 rounds": rows([0.4, 0.8]), "64 rounds": rows([0.6, 0.8])},
        "provenance": made,
    }
    assert "| 60.0 ± 1.0 | +0.0 ± 14.1 | 70.0 ± 1.0 | +10.0 ± 0.0 |" in readme.recipes(found)


@pytest.mark.parametrize("page", ["README.md", "Makefile"])
def test_how_long_the_demo_takes_is_what_it_took(page):
    took = json.loads((FOLDER / "results" / "demo.json").read_text(encoding="utf-8"))["minutes"]
    told = re.search(r"(\d) to (\d) minutes on 2", (FOLDER.parent / page).read_text(encoding="utf-8"))
    assert told is not None and int(told[1]) <= took <= int(told[2])
