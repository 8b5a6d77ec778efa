"""What a model answered stands on the page: by class, and what is taken for what."""

from __future__ import annotations

import json

import pytest
from tests.report.made import MadeRun

from spry.report.answers import MATRIX, answers, clients
from spry.report.page import write_report
from spry.report.read import read_run

CONFUSION = [[8, 2], [1, 9]]


def written(tmp_path, confusion, **given):
    """A run whose last evaluation has a confusion matrix; of three classes and more the names are numbers."""
    folder = MadeRun(**given).write(tmp_path / "run")
    lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    lines[-1]["test_details"] = {"confusion": confusion}
    (folder / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if given.get("finished", True):
        summary = json.loads((folder / "summary.json").read_text())
        summary |= {"test_details": lines[-1]["test_details"], "labels": ["bad", "good"]}
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


def test_precision_and_recall_by_hand(tmp_path):
    by_class, matrix = answers(read_run(written(tmp_path, CONFUSION)))
    assert by_class.title == "by class, test part"
    assert texts(by_class) == [["bad", "88.9", "80.0", "84.2", "10"], ["good", "81.8", "90.0", "85.7", "10"]]
    assert matrix.columns == ("class", "taken for bad", "taken for good")
    assert [[cell.share for cell in row] for row in matrix.rows] == [[None, 0.8, 0.2], [None, 0.1, 0.9]]


def test_a_run_in_progress_shows_its_last_evaluation(tmp_path):
    by_class, _ = answers(read_run(written(tmp_path, CONFUSION, finished=False)))
    assert [row[0] for row in texts(by_class)] == ["0", "1"]


def test_many_classes_have_their_worst_pairs_and_older_runs_nothing(tmp_path):
    many = [
        [MATRIX * (k == j) + 5 * ((j, k) == (3, 1)) for k in range(MATRIX + 1)] for j in range(MATRIX + 1)
    ]
    _, pairs = answers(read_run(written(tmp_path, many)))
    assert pairs.title == "most often confused" and texts(pairs) == [["3", "1", "5"]]
    assert answers(read_run(MadeRun().write(tmp_path / "old"))) == []


def test_each_client_has_its_last_scores(tmp_path):
    folder = MadeRun(rounds=2).write(tmp_path / "run")
    lines = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    lines[0]["clients"][3] |= {"generalized_accuracy": 0.5, "personalized_accuracy": None}
    lines[1]["clients"][2] |= {"generalized_accuracy": 0.75, "personalized_accuracy": 0.875}
    (folder / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert texts(clients(read_run(folder))) == [["3", "20", "2", "75.0", "87.5"]]


@pytest.mark.parametrize("several", [False, True])
def test_a_run_by_itself_shows_its_answers_and_no_lonely_bars(tmp_path, several):
    folders = [written(tmp_path, CONFUSION)]
    folders += [MadeRun(method="fedavg").write(tmp_path / "other")] if several else []
    report = write_report(folders, tmp_path / "report")
    page = report.page.read_text()
    body = page[page.index("<body>") :]
    names = [image.stem for image in report.images]
    assert names == (["curves", "costs", "tradeoff"] if several else ["curves"])
    assert body.index("taken for good") > 0
    assert ("<h2>Confusion matrix</h2>" in body) == (not several)  # of several runs it is in their folds
    outcome = body[body.index('class="outcome"') : body.index("</table>")]
    assert ('class="bar"' in outcome) == several
    assert ("Bars compare costs" in body) == several
