"""The tables of a comparison, from a document made by hand."""

from __future__ import annotations

import json

import pytest

from spry.core.errors import DataError
from spry.report import comparison
from spry.report.tables import markdown, text_table


def accuracy(mean, std=0.0):
    return {"score_mean": mean, "score_std": std}


DOCUMENT = {
    "schema": 3,
    "score": {"name": "accuracy", "higher_is_better": True},
    "rows": [
        {"method": "spry", "checkpointing": None, "seeds": [0, 1, 2]},
        {"method": "fedavg", "checkpointing": True, "seeds": [0, 1, 2]},
    ],
    "views": {
        "equal_rounds": {
            "rounds": list(range(1, 21)),
            "rows": [
                {"method": "spry", "after": [accuracy(0.5 + k / 100, 0.01) for k in range(20)]},
                {"method": "fedavg", "after": [accuracy(0.6, 0.02)] * 20},
            ],
        },
        "budget": {
            "budget": {"peak_bytes_above_model": 8 << 20, "operations": 3e12, "cpu_seconds": 30.0,
                       "bytes_per_client": 2048.0},
            "rows": [
                {"method": "spry", "peak_bytes_above_model": 7 << 20, "fits": True,
                 "within_operations": accuracy(0.61), "within_cpu_seconds": accuracy(0.58),
                 "within_bytes_per_client": accuracy(0.6), "within_all": accuracy(0.58)},
                {"method": "fedavg", "peak_bytes_above_model": 9 << 20, "fits": False,
                 "within_operations": accuracy(0.6), "within_cpu_seconds": accuracy(0.6),
                 "within_bytes_per_client": None, "within_all": None},
            ],
        },
        "target": {
            "target": 0.65,
            "rows": [
                {"method": "spry", "seeds": 3, "reached": 2, "rounds": 15.5, "operations": 1e12,
                 "cpu_seconds": 15.0, "client_seconds": 20.0, "bytes_per_client": 1024.0},
                {"method": "fedavg", "seeds": 3, "reached": 0, "rounds": None, "operations": None,
                 "cpu_seconds": None, "client_seconds": None, "bytes_per_client": None},
            ],
        },
    },
    "tuning": {
        "seed": 100, "rounds": 5, "validation": 0.1, "points": 2,
        "methods": {
            "spry": {"points": [{"settings": {"client.lr": 0.1, "method.count": 4}, "score": 0.5},
                                {"settings": {"client.lr": 0.2, "method.count": 4}, "score": None}],
                     "chosen": {"client.lr": 0.1, "method.count": 4}, "at_edge": ["client.lr"]},
            "fedavg": {"points": [{"settings": {"client.lr": 1e-4}, "score": 0.7}],
                       "chosen": {"client.lr": 1e-4}, "at_edge": []},
        },
    },
}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "comparison.json").write_text(json.dumps(DOCUMENT))
    return tmp_path


def test_equal_rounds_show_a_few_and_the_last(folder):
    rounds, *_ = comparison.comparison_tables(folder)
    assert len(rounds.columns) == 1 + comparison.MAX_COLUMNS
    assert rounds.columns[-1] == "after 20 rounds"
    spry, fedavg = rounds.rows
    assert fedavg[0].text == "fedavg + checkpointing"
    assert (spry[-1].text, spry[-1].best, fedavg[1].best) == ("69.0 ± 1.0", True, True)


def test_one_seed_has_no_spread(folder):
    rows = [{**row, "seeds": [0]} for row in DOCUMENT["rows"]]
    (folder / "comparison.json").write_text(json.dumps({**DOCUMENT, "rows": rows}))
    assert comparison.comparison_tables(folder)[0].rows[0][-1].text == "69.0"


def test_what_does_not_fit_is_marked(folder):
    _, budget, *_ = comparison.comparison_tables(folder)
    assert [[cell.text for cell in row[4:]] for row in budget.rows] == [
        ["58.0 ± 0.0", "7 MiB"],
        ["–", "9 MiB (too much)"],
    ]
    assert budget.columns[1:4] == (
        "within 3 TFLOP of all clients",
        "within 2 KiB per client",
        "within 30.0 s of processor time",
    )
    assert [[cell.best for cell in row[1:4]] for row in budget.rows] == [
        [True, True, False],
        [False, False, True],
    ]
    assert budget.columns[-1].endswith("(limit 8 MiB)")


def test_what_is_not_reached_is_said(folder):
    target = comparison.comparison_tables(folder)[2]
    assert target.title == "Cost of reaching a test accuracy of 65.0 %"
    assert [row[1].text for row in target.rows] == ["15.5 (2 of 3 seeds)", "not reached"]


def test_the_least_costs_are_marked_but_never_of_wall_time(folder):
    slow = {"method": "spry", "seeds": 3, "reached": 3, "rounds": 9.0, "operations": 2e12, "cpu_seconds": 20.0,
            "client_seconds": 9.0, "bytes_per_client": 100.0}  # fmt: skip
    fast = {**slow, "method": "fedavg", "operations": 1e12, "client_seconds": 90.0}
    document = json.loads(json.dumps(DOCUMENT))
    document["views"]["target"]["rows"] = [slow, fast]
    (folder / "comparison.json").write_text(json.dumps(document))
    target = comparison.comparison_tables(folder)[2]
    assert target.columns[2:] == (
        "operations, all clients",
        "bytes per client, up and down",
        "processor time, all clients",
        "wall time (not ranked)",
    )
    assert [[cell.best for cell in row[2:]] for row in target.rows] == [
        [False, True, True, False],
        [True, True, True, False],
    ]
    document["views"]["target"]["rows"] = [slow, {**fast, "reached": 2}]  # not all seeds: no match
    (folder / "comparison.json").write_text(json.dumps(document))
    assert [cell.best for cell in comparison.comparison_tables(folder)[2].rows[0][2:5]] == [False] * 3


def test_tuning_shows_what_was_tried_and_where_the_grid_ends(folder):
    tuning = comparison.comparison_tables(folder)[3]
    assert [[cell.text for cell in row[1:]] for row in tuning.rows] == [
        ["client.lr, method.count", "0.1, 4: 50.0;  0.2, 4: broke down", "0.1, 4", "client.lr"],
        ["client.lr", "0.0001: 70.0", "0.0001", "no"],
    ]


def test_everything_goes_into_the_markdown(folder):
    text = comparison.write_markdown(folder, [text_table("Outcomes", ["a"], [["1"]])]).read_text()
    for table in comparison.comparison_tables(folder):
        assert markdown(table) in text
    assert text.startswith("**Outcomes**")


def test_other_folders_and_older_comparisons_have_no_views(tmp_path):
    assert comparison.comparison_tables(tmp_path) == []
    (tmp_path / "comparison.json").write_text('{"rows": []}')
    assert comparison.comparison_tables(tmp_path) == []
    (tmp_path / "comparison.json").write_text('{"rows": [')
    with pytest.raises(DataError, match="damaged"):
        comparison.comparison_tables(tmp_path)
