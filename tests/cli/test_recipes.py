"""Recipes run: one of each task on tiny files, and all small siblings for a round where their files are."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from tests.tasks.test_reading import passage, question

from spry.core.errors import SpryError
from spry.data.places import locate
from spry.experiment.build import check_settings
from spry.experiment.config import load_config
from spry.experiment.cookbook import recipes

FILES = Path(os.environ.get("SPRY_DATA", Path(__file__).parents[3] / "shared" / "data"))
SMALL = [name for name in recipes() if name.endswith("-offline")]
FEW = [
    "data.held_out=0.02",
    "schedule.clients_per_round=2",
    "schedule.rounds=1",
    "data.test_examples=16",
]
FEW += ["head.clients=2", "schedule.personalized=false", "schedule.evaluate_start=false", "client.steps=1"]


def settings(*given):
    return [part for one in given for part in ("--set", one)]


def packed(folder, name, lines):
    (folder / name).write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))


def sst2(folder):
    rows = [
        f"{n % 2}\t{('bad', 'good')[n % 2]} {'film ' * (n % 5)}plot{' very' * (n % 7)}" for n in range(80)
    ]
    for part in ("train", "dev"):
        packed(folder, f"sst2_{part}.tsv.gz", ["label\tsentence", *rows[: 80 if part == "train" else 8]])
    return folder / "sst2_dev.tsv.gz", ["label", "probability"]


def multirc(folder):
    for part, count in (("train", 30), ("val", 4)):
        packed(folder, f"multirc_{part}.jsonl.gz", [json.dumps(passage(n)) for n in range(count)])
    return folder / "multirc_val.jsonl.gz", ["label", "probability"]


def squad2(folder):
    for part, count in (("train", 60), ("eval", 8)):
        packed(folder, f"squad2_{part}.jsonl.gz", [json.dumps(question(n)) for n in range(count)])
    return folder / "squad2_eval.jsonl.gz", ["answer", "probability"]


TINY = {"recipes/sst2-offline": sst2, "recipes/multirc-offline": multirc, "recipes/squad2-offline": squad2}
"""What writes the files of a recipe, tiny, and names the columns of its predictions."""


@pytest.mark.parametrize("name", TINY)
def test_a_small_sibling_trains_answers_and_is_exported(name, spry, tiny_model, tmp_path, monkeypatch):
    data = tmp_path / "files"
    data.mkdir()
    held, columns = TINY[name](data)
    monkeypatch.setenv("SPRY_DATA", str(data))
    stride = ["task.stride=4"] if "squad" in name else []
    tiny = settings(
        *stride,
        f"model.name={tiny_model}", "model.max_length=24", "model.quantization=none", "data.clients=4",
        "data.test_examples=8", "schedule.clients_per_round=2", "schedule.rounds=1", "client.steps=1",
    )  # fmt: skip
    made = spry("run", name, *tiny, "--out", "run")
    assert made.code == 0, made.err
    said = load_config(tmp_path / "run" / "config.toml").data.name
    assert said.startswith("$SPRY_DATA/") and locate(said).is_file(), "the record is of no machine"
    told = spry("evaluate", "run", "--data", held, "--json")
    assert told.code == 0, told.err
    assert spry("predict", "run", "--data", held, "--out", "out.jsonl").code == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert rows and set(columns) <= set(rows[0])
    assert spry("export", "run", "adapter").code == 0
    assert spry("predict", "adapter", "--data", held, "--out", "again.jsonl").code == 0
    assert (tmp_path / "again.jsonl").read_text() == (tmp_path / "out.jsonl").read_text()
    assert spry("run", name, *tiny, "--out", "run", "--resume", "run").code == 2, "they exclude each other"
    assert spry("resume", "run", "--rounds", "2").code == 0


def test_files_that_are_not_there_are_named_with_the_variable(spry, monkeypatch):
    monkeypatch.delenv("SPRY_DATA", raising=False)
    told = spry("run", "recipes/sst2-offline")
    assert told.code == 2 and "no variable SPRY_DATA" in told.err


def test_they_are_listed_and_planned(spry):
    listed = spry("recipes", "--json").document
    assert [row["name"] for row in listed] == list(recipes())
    told = spry("plan", "recipes/yelp")
    assert told.code == 0 and "2 of " in told.out + told.err and "50 clients a unit" in told.out + told.err
    assert spry("plan", "recipes/yelp", "--json").document["asked"] == 100


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_small_sibling_runs_a_round_on_its_own_files(name, spry, monkeypatch):
    monkeypatch.setenv("SPRY_DATA", str(FILES))
    config = load_config(name)
    for place in (config.data.name, config.data.test):
        if place and place.startswith("$") and not locate(place).is_file():
            pytest.skip(f"{locate(place).name} is absent; set SPRY_DATA to the folder of benchmark files")
    try:
        check_settings(config)
    except SpryError as error:
        pytest.skip(str(error))
    clients = max(100, config.data.clients)
    made = spry("run", name, *settings(*FEW, f"data.clients={clients}"), "--out", "run", "--json")
    assert made.code == 0, made.err
    assert made.document["rounds"] == 1
