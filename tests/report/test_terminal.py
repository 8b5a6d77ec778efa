"""Tables on a screen: never wider than it, and nothing is cut."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.cells import cell_len
from rich.console import Console
from tests.report.made import MadeRun, comparison
from tests.report.test_comparison import DOCUMENT

from spry.report.comparison import comparison_tables
from spry.report.details import evaluations, failures, units
from spry.report.groups import group_runs
from spry.report.outcome import MORE, outcome_table, settings_tables
from spry.report.read import read_runs
from spry.report.tables import text_table
from spry.report.terminal import terminal


def shown(table, width):
    screen = Console(file=StringIO(), width=width)
    screen.print(terminal(table, width))
    return screen.file.getvalue()


def made(tmp_path):
    """Every table that a command prints of runs, at its widest: seeds, a validation part, all columns."""
    folder = comparison(tmp_path / "all", seeds=2)
    for seed in (0, 1):
        MadeRun(method="fedsgd", seed=seed, validated=True, up=1100 << 10).write(folder / f"fedsgd-s{seed}")
    (folder / "comparison.json").write_text(json.dumps(DOCUMENT))
    (section,), _ = group_runs(read_runs([folder]))
    tables = [outcome_table(section), outcome_table(section, MORE), *comparison_tables(folder)]
    tables += filter(None, settings_tables(section))
    return tables + [make(section.runs[2]) for make in (evaluations, failures, units)]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_every_table_fits_and_every_cell_is_whole(tmp_path, width):
    for table in made(tmp_path):
        text = shown(table, width)
        assert max(map(cell_len, text.splitlines())) <= width, table.title
        for row in table.rows:
            for cell in row:
                assert all(word in text for word in cell.text.split()), (table.title, cell.text)
        for cell in (cell for row in table.rows for cell in row[1:] if len(cell.text) <= 20):
            assert cell.text in text, (table.title, cell.text)
        for heading in table.columns:
            assert all(word in text for word in heading.split()), (table.title, heading)


def test_columns_that_do_not_fit_follow_below_evenly():
    table = text_table(
        "t", ["name", *(f"column{k}" for k in range(6))], [["a", *("1" * 12 for _ in range(6))]]
    )
    blocks = shown(table, 60)
    headings = [line.split() for line in blocks.splitlines() if "name" in line]
    assert [len(heading) for heading in headings] == [4, 4]
    assert blocks.splitlines()[0].strip() == "t" and blocks.count("\nt ") == 0


def test_names_fold_where_that_saves_a_block():
    table = text_table("", ["name", "x"], [["alpha beta gamma", "1" * 10]])
    assert "alpha beta gamma" in shown(table, 40)
    lines = [line.strip() for line in shown(table, 20).splitlines()]
    assert "alpha" in lines and any(line.startswith("gamma") and "1" * 10 in line for line in lines)


def test_a_word_wider_than_the_screen_is_folded_and_not_cut():
    text = shown(text_table("", ["name", "x"], [["a" * 100, "7"]]), 40)
    assert text.count("a") >= 100 and max(map(len, text.splitlines())) <= 40
