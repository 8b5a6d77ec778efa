"""``spry predict``, ``evaluate`` and ``export`` on a run of the tiny model."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from tests.inference.conftest import finished as finished
from tests.inference.conftest import headed_model as headed_model
from tests.inference.conftest import reviews_csv as reviews_csv


@pytest.fixture
def new_csv(tmp_path) -> Path:
    (tmp_path / "new.csv").write_text("number,body\n1,the film was good\n2,\n3,bad\n4,dull and bad\n")
    return tmp_path / "new.csv"


def test_predictions_are_printed_beside_the_columns_in_the_order_of_the_rows(spry, finished, new_csv):
    result = spry("predict", finished, "--data", new_csv)
    assert result.code == 0, result.err
    rows = list(csv.DictReader(result.out.splitlines()))
    assert list(rows[0]) == ["number", "body", "label", "probability"]
    assert [row["number"] for row in rows] == ["1", "2", "3", "4"]
    assert {row["label"] for row in rows} <= {"poor", "great", "medium", ""}
    assert rows[1]["label"] == rows[1]["probability"] == ""
    assert "1 row without a text got no prediction (row 2)" in result.err
    alone = [spry("predict", finished, "--text", row["body"]) for row in rows if row["body"]]
    assert [one.out.splitlines()[1].split(",")[-2] for one in alone] == [
        r["label"] for r in rows if r["label"]
    ]


def test_excels_file_is_predicted_and_judged_in_its_encoding(spry, finished):
    Path("excel.csv").write_bytes("body;mood\r\ngood – fine;great\r\nbad;poor\r\n".encode("cp1252"))
    asked = ("--data", "excel.csv", "--encoding", "cp1252")
    assert "--encoding cp1252" in spry("predict", finished, "--data", "excel.csv").err
    assert "good – fine" in spry("predict", finished, *asked, "--separator", ";").out
    assert spry("evaluate", finished, *asked, "--label-column", "mood").code == 0


@pytest.mark.parametrize("what", ["data", "test"])
def test_a_run_on_data_from_python_has_no_test_part_to_read_again(what, spry, finished):
    shutil.copytree(finished, "run")
    meta = json.loads(Path("run/meta.json").read_text(encoding="utf-8"))
    Path("run/meta.json").write_text(json.dumps({**meta, "given": [what]}), encoding="utf-8")
    assert "a run whose data was given in Python" in spry("evaluate", "run").err


def test_predictions_are_written_as_the_ending_says(spry, finished, new_csv):
    result = spry("predict", finished / "adapter", "--data", new_csv, "--out", "out.jsonl", "--probabilities")
    assert result.code == 0, result.err
    assert result.out == "" and "3 texts answered; written to out.jsonl" in result.err
    first = json.loads(Path("out.jsonl").read_text(encoding="utf-8").splitlines()[0])
    every = [first[f"probability_{name}"] for name in ("poor", "great", "medium")]
    assert sum(every) == pytest.approx(1, abs=1e-5) and max(every) == first["probability"]


def test_an_adapter_moved_away_from_everything_still_predicts(spry, finished, new_csv, headed_model):
    shutil.copytree(finished / "adapter", "there")
    here, there = (spry("predict", folder, "--data", new_csv) for folder in (finished, "there"))
    assert here.out == there.out and there.code == 0
    (Path("there") / "base" / "pretrained.safetensors").unlink()
    assert "--base FOLDER" in spry("predict", "there", "--data", new_csv).err
    assert spry("predict", "there", "--data", new_csv, "--base", headed_model).out == here.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give either a file with --data FILE, or a text"),
        (("--data", "new.csv", "--text", "a"), "give either a file"),
        (("--text", "a", "--text", "b"), "reads single texts: give --text once"),
        (("--data", "missing.csv"), "there is no such file"),
        (("--data", "new.csv", "--text-column", "bodi"), "Did you mean 'body'"),
        (("--data", "new.csv", "--out", "out.xlsx"), "written to files that end in"),
        (("--data", "new.csv", "--text-column", "bodi"), "Name it with --text-column."),
        (("--data", "new.csv", "--device", "gpu"), "'gpu'"),
    ],
)
def test_what_cannot_be_predicted_is_one_line(spry, finished, new_csv, arguments, says):
    result = spry("predict", finished, *arguments)
    assert result.code == 2
    assert result.err.startswith("Error: ") and says in result.err and result.err.count("\n") == 1


def test_folders_without_an_adapter_say_what_they_are(spry, finished, new_csv):
    Path("unfinished").mkdir()
    shutil.copy(finished / "config.toml", "unfinished")
    several = shutil.copytree(finished, Path("several") / "one")
    for folder, says in (
        ("unfinished", "a run that is not finished, so it has no adapter yet: spry resume unfinished"),
        ("unfinishd", "there is no such folder. Did you mean 'unfinished'?"),
        ("several", f"holds 1 runs; name one, such as {several}"),
        (".", "neither a run folder nor an adapter folder"),
    ):
        result = spry("predict", folder, "--text", "a")
        assert result.code == 2 and says in result.err, result.err


def test_without_data_the_runs_own_test_part_gives_the_runs_own_score(spry, finished):
    summary = json.loads((finished / "summary.json").read_text(encoding="utf-8"))
    result = spry("evaluate", finished, "--json")
    assert result.code == 0, result.err
    assert result.document["accuracy"] == summary["test_accuracy"]
    assert result.document["baseline"] == summary["score"]["baseline"]
    assert result.document["labels"] == ["poor", "great", "medium"]
    printed = spry("evaluate", finished)
    assert f"accuracy {100 * summary['test_accuracy']:.1f} %" in printed.out
    assert max(map(len, printed.out.splitlines())) <= 80
    for expected in ("by class", "precision", "confusion matrix", "medium"):
        assert expected in printed.out


def test_a_run_on_objects_and_data_that_have_changed_are_told(spry, finished):
    shutil.copytree(finished, "run")
    meta = json.loads(Path("run/meta.json").read_text(encoding="utf-8"))
    meta["fingerprints"]["data"] = dict.fromkeys(meta["fingerprints"]["data"], "0" * 64)
    Path("run/meta.json").write_text(json.dumps(meta), encoding="utf-8")
    assert "is not the data that the run began with" in spry("evaluate", "run").err
    Path("run/meta.json").write_text(json.dumps({**meta, "given": ["data"]}), encoding="utf-8")
    result = spry("evaluate", "run")
    assert result.code == 2 and "a run whose data was given in Python" in result.err


def test_a_file_is_evaluated_and_the_result_written(spry, finished, reviews_csv):
    result = spry("evaluate", finished / "adapter", "--data", reviews_csv, "--out", "result.json")
    assert result.code == 0, result.err
    written = json.loads(Path("result.json").read_text(encoding="utf-8"))
    assert written["examples"] == 90 and written["baseline"] == pytest.approx(1 / 3)
    predicted = spry("predict", finished, "--data", reviews_csv)
    rows = list(csv.DictReader(predicted.out.splitlines()))
    assert written["accuracy"] == pytest.approx(sum(row["mood"] == row["label"] for row in rows) / 90)
    assert sum(map(sum, written["confusion"])) == 90


def test_where_a_result_cannot_be_written_nothing_is_evaluated(spry, finished, reviews_csv, monkeypatch):
    monkeypatch.setattr("spry.cli.evaluate.load", lambda *_: pytest.fail("the model is loaded"))
    result = spry("evaluate", finished, "--data", reviews_csv, "--out", "nowhere/result.json")
    assert result.code == 2 and "there is no folder nowhere. Make it" in result.err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "is no run folder, so it has no test part to read again. Give a file with --data FILE"),
        ("body\ngood\n", "without labels, use spry predict"),
        ("body,mood\ngood,grate\n", "Did you mean 'great'"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(spry, finished, content, says):
    Path("data.csv").write_text(content or "", encoding="utf-8")
    result = spry("evaluate", finished / "adapter", *(("--data", "data.csv") if content else ()))
    assert result.code == 2
    assert says in result.err and result.err.count("\n") == 1


def test_many_classes_are_shown_by_their_confusions(spry, tiny_model, tmp_path):
    from tests.tasks.test_adapter_folder import trained

    names = [f"a rather long name of class {number}" for number in range(13)]
    task, weights = trained(str(tiny_model), names)
    task.save_adapter(weights, tmp_path / "many")
    rows = [f"the film {'was good ' * (number % 5)},{names[number % 13]}" for number in range(60)]
    (tmp_path / "many.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    result = spry("evaluate", "many", "--data", "many.csv")
    assert result.code == 0, result.err
    assert "most often confused" in result.out and "matrix" not in result.out
    assert max(map(len, result.out.splitlines())) <= 80


def test_export_copies_the_folder_or_merges_it(spry, finished, new_csv):
    result = spry("export", finished, "shipped")
    assert result.code == 0 and "shipped/README.md" in result.err
    assert (
        spry("predict", "shipped", "--data", new_csv).out == spry("predict", finished, "--data", new_csv).out
    )
    result = spry("export", finished, "--merge", "merged")
    assert result.code == 0 and 'pipeline("text-classification", "merged")' in result.err
    config = json.loads(Path("merged/config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {"0": "poor", "1": "great", "2": "medium"}
    assert "library_name: transformers" in Path("merged/README.md").read_text(encoding="utf-8")
    result = spry("export", finished, "merged")
    assert result.code == 2 and "exists and is not empty" in result.err
