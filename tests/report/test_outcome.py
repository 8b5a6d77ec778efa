"""The tables say what the summaries say, alike in every form."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.console import Console
from tests.report.made import MadeRun, comparison

from spry.report.groups import group_runs
from spry.report.outcome import MORE, main_columns, outcome_table, settings_tables
from spry.report.read import read_runs
from spry.report.tables import markdown
from spry.report.terminal import terminal


@pytest.fixture
def section(tmp_path):
    return group_runs(read_runs([comparison(tmp_path / "all")]))[0][0]


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


def test_the_demo_table(section):
    rows = texts(outcome_table(section))
    assert [row[0] for row in rows] == ["commonest answer", "head_only", "spry", "fedavg + checkpointing"]
    assert rows[0][1:] == ["42.4", "–", "–", "–", "–", "–"]
    accuracy = section.groups[1].runs[0].summary["test_accuracy"]
    assert rows[2][1] == f"{100 * accuracy:.1f}"
    assert rows[2][4:] == ["31 MiB", "2 GFLOP", "8.01 KiB"]


def test_the_best_accuracies_are_marked_and_costs_are_drawn(section):
    table = outcome_table(section, MORE)
    assert [[cell.best for cell in row].count(True) for row in table.rows] == [0, 0, 0, 3]
    peak = 1 + [column.key for column in main_columns(section)].index("peak_bytes_above_model")
    assert [row[peak].share for row in table.rows] == [
        None,
        pytest.approx(20 / 96),
        pytest.approx(31 / 96),
        1.0,
    ]


def test_seeds_and_progress_are_told(tmp_path):
    going = MadeRun(method="fedsgd", finished=False, rounds=3)
    (section,), _ = group_runs(
        read_runs([comparison(tmp_path / "all", seeds=2), going.write(tmp_path / "going")])
    )
    rows = texts(outcome_table(section))
    assert "±" in rows[1][1]
    assert rows[-1][0] == "fedsgd + checkpointing (1 seed, in progress)"
    assert rows[-1][1] == "–"
    assert rows[-1][4] == "30 MiB"


@pytest.mark.parametrize("width", [80, 100, 200])
def test_the_terminal_shows_every_number(section, width):
    table = outcome_table(section)
    screen = Console(file=StringIO(), width=width)
    screen.print(terminal(table))
    shown = screen.file.getvalue()
    assert max(map(len, shown.splitlines())) <= width
    assert "…" not in shown
    for row in texts(table):
        assert all(text in shown for text in row[1:])


def test_markdown_has_a_row_each(section):
    lines = markdown(outcome_table(section)).splitlines()
    assert len(lines) == 2 + 2 + 4
    assert len({line.count("|") for line in lines[2:]}) == 1


def test_settings_are_divided_into_common_and_differing(section):
    common, differing = settings_tables(section)
    assert ["data.alpha", "1.0"] in texts(common)
    assert texts(differing) == [
        ["method.name", "head_only", "spry", "fedavg"],
        ["method.clients_step", "yes", "–", "–"],
        ["method.num_directions", "–", "1", "–"],
        ["method.checkpoint", "–", "–", "yes"],
    ]
    assert not any(row[0] == "seed" for row in texts(common))


def test_one_run_differs_in_nothing(tmp_path):
    (section,), _ = group_runs(read_runs([MadeRun().write(tmp_path / "run")]))
    assert settings_tables(section)[1] is None


def test_times_are_sums_of_the_run_and_a_slowed_round_counts_as_the_others(tmp_path):
    folder = MadeRun(rounds=4).write(tmp_path / "run")
    lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    for line, seconds in zip(lines, (97.0, 1.0, 2.0, 3.0), strict=True):
        line["client_seconds"], line["client_cpu_seconds"] = seconds, seconds / 2
        for client in line["clients"]:
            client["slowed"] = seconds > 90
    (folder / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (section,), _ = group_runs(read_runs([folder]))
    table = outcome_table(section, MORE)
    row = dict(zip(table.columns, table.rows[-1], strict=True))
    assert row["processor time, all clients, whole run"].text == "4.00 s"
    wall = row["wall time, all clients, whole run"]
    assert wall.text == "8.00 s" and wall.share is None and not wall.best
    assert row["operations, all clients, whole run"].text == "80 GFLOP"


def test_what_older_runs_have_not_counted_has_no_column(tmp_path):
    old = MadeRun(method="fedavg", operations=None).write(tmp_path / "old")
    (alone,), _ = group_runs(read_runs([old]))
    assert not any("operations" in title for title in outcome_table(alone, MORE).columns)
    (both,), _ = group_runs(read_runs([old, MadeRun().write(tmp_path / "new")]))
    table = outcome_table(both, MORE)
    place = table.columns.index("operations, all clients, whole run")
    assert [row[place].text for row in table.rows] == ["–", "–", "400 GFLOP"]


def test_a_validation_part_has_a_column_where_there_is_one(tmp_path):
    plain = MadeRun().write(tmp_path / "plain")
    more = MadeRun(method="fedavg", validated=True).write(tmp_path / "more")
    untested = MadeRun(method="fedsgd", validated=True, tested=False).write(tmp_path / "untested")

    def shown(*folders):
        (section,), _ = group_runs(read_runs(folders))
        return section.part, [column.key for column in main_columns(section) if column.kind == "score"]

    assert shown(plain) == ("test", ["test_accuracy", "generalized_accuracy", "personalized_accuracy"])
    assert shown(plain, more)[1][:2] == ["test_accuracy", "validation_accuracy"]
    assert shown(untested)[0] == "validation"
