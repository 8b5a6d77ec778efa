"""The tables say what the summaries say, alike in every form."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console
from tests.report.made import MadeRun, comparison

from spry.report.groups import sections
from spry.report.load import find
from spry.report.outcome import MAIN, MORE, outcome, settings
from spry.report.tables import markdown, terminal


@pytest.fixture
def section(tmp_path):
    return sections(find([comparison(tmp_path / "all")]))[0][0]


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


def test_the_demo_table(section):
    rows = texts(outcome(section))
    assert [row[0] for row in rows] == ["majority class", "head_only", "spry", "fedavg + checkpointing"]
    assert rows[0][1:] == ["42.4", "–", "–", "–", "–", "–"]
    accuracy = section.groups[1].runs[0].summary["test_accuracy"]
    assert rows[2][1] == f"{100 * accuracy:.1f}"
    assert rows[2][4:] == ["31 MiB", "0.50 s", "8.01 KiB"]


def test_the_best_accuracies_are_marked_and_costs_are_drawn(section):
    table = outcome(section, (*MAIN, *MORE))
    assert [[cell.best for cell in row].count(True) for row in table.rows] == [0, 0, 0, 3]
    peak = 1 + [column.key for column in MAIN].index("peak_bytes_above_model")
    assert [row[peak].share for row in table.rows] == [
        None,
        pytest.approx(20 / 96),
        pytest.approx(31 / 96),
        1.0,
    ]


def test_seeds_and_progress_are_told(tmp_path):
    going = MadeRun(method="fedsgd", finished=False, rounds=3)
    (section,), _ = sections(find([comparison(tmp_path / "all", seeds=2), going.write(tmp_path / "going")]))
    rows = texts(outcome(section))
    assert "±" in rows[1][1]
    assert rows[-1][0] == "fedsgd + checkpointing (1 seed, in progress)"
    assert rows[-1][1] == "–"
    assert rows[-1][4] == "30 MiB"


@pytest.mark.parametrize("width", [80, 100, 200])
def test_the_terminal_shows_every_number(section, width):
    table = outcome(section)
    screen = Console(file=StringIO(), width=width)
    screen.print(terminal(table))
    shown = screen.file.getvalue()
    assert max(map(len, shown.splitlines())) <= width
    assert "…" not in shown
    for row in texts(table):
        assert all(text in shown for text in row[1:])


def test_markdown_has_a_row_each(section):
    lines = markdown(outcome(section)).splitlines()
    assert len(lines) == 2 + 2 + 4
    assert len({line.count("|") for line in lines[2:]}) == 1


def test_settings_are_divided_into_common_and_differing(section):
    common, differing = settings(section)
    assert ["data.alpha", "1.0"] in texts(common)
    assert ["method.checkpoint", "yes"] in texts(common)
    assert texts(differing) == [["method.name", "head_only", "spry", "fedavg"]]
    assert not any(row[0] == "seed" for row in texts(common))


def test_one_run_differs_in_nothing(tmp_path):
    (section,), _ = sections(find([MadeRun().write(tmp_path / "run")]))
    assert settings(section)[1] is None
