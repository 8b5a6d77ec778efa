"""A run goes on with what it began with: model, data, versions, and the folder that an older Spry wrote."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from tests.experiment.test_run import config as config
from tests.experiment.test_run import equal, weights

from spry.core.errors import CheckpointError
from spry.experiment.config import Config
from spry.experiment.folder import META, is_finished, matches
from spry.experiment.run import resume, run
from spry.report.read import read_run


@pytest.fixture
def own(config, tiny_model, tiny_csv, tmp_path):
    """The configuration with a model and data that a test may change, and a run of it that was stopped."""
    shutil.copytree(tiny_model, tmp_path / "model")
    shutil.copy(tiny_csv, tmp_path / "data.csv")
    named = {"model.name": str(tmp_path / "model"), "data.name": str(tmp_path / "data.csv")}
    config = config.with_settings(named)
    going = run(config, tmp_path / "run")
    next(going), next(going)
    going.close()
    return config


@pytest.mark.parametrize(
    ("name", "old", "new", "says"),
    [
        ("data.csv", b"bad", b"sad", r"other data: .*data\.csv was [0-9a-f]{12}, is [0-9a-f]{12}\. "),
        ("model/config.json", b'"gelu"', b'"relu"', r"another base model: config\.json was"),
        ("model/tokenizer.json", b'"good"', b'"food"', r"another base model: tokenizer\.json was"),
    ],
)
def test_a_run_goes_on_with_the_model_and_data_that_it_began_with(name, old, new, says, own, tmp_path):
    file = tmp_path / name
    before = file.read_bytes()
    assert old in before
    file.write_bytes(before.replace(old, new))
    assert not matches(own, tmp_path / "run")
    with pytest.raises(CheckpointError, match=says):
        next(resume(tmp_path / "run"))
    file.write_bytes(before)
    assert matches(own, tmp_path / "run")
    assert next(resume(tmp_path / "run")).notes == []


def test_a_data_file_that_was_only_written_otherwise_is_the_same_data(own, tmp_path):
    file = tmp_path / "data.csv"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert next(resume(tmp_path / "run")).resumed_at == 1


def test_the_first_start_is_kept_and_resumptions_are_noted(own, tmp_path):
    meta = tmp_path / "run" / META
    first = json.loads(meta.read_text())
    assert first["resumptions"] == []
    first["versions"]["torch"] = "1.0"
    meta.write_text(json.dumps(first))
    started = next(resume(tmp_path / "run"))
    (note,) = started.notes
    assert f"torch was 1.0, is {torch.__version__}" in note
    second = json.loads(meta.read_text())
    (noted,) = second.pop("resumptions")
    assert noted["versions"]["torch"] == torch.__version__
    assert second == {name: value for name, value in first.items() if name != "resumptions"}


KINDS = {"model", "start", "data", "files", "clients"}


def test_a_run_of_an_older_spry_without_fingerprints_goes_on(own, tmp_path):
    meta = tmp_path / "run" / META
    old = json.loads(meta.read_text())
    del old["fingerprints"], old["resumptions"]
    meta.write_text(json.dumps(old))
    assert next(resume(tmp_path / "run")).resumed_at == 1
    assert json.loads(meta.read_text())["fingerprints"].keys() == KINDS


def test_a_run_of_an_older_spry_without_a_base_goes_on(config, tmp_path):
    """It rests on nothing: what it leaves out was unset, and is not what the recipe of today says."""
    folder = tmp_path / "run"
    plain = Config().with_settings({**config.flat(), "client.lr": None, "peft.rank": 1})
    short = plain.with_settings({"schedule.rounds": 2})
    list(run(short, folder))
    lines = (folder / "config.toml").read_text().splitlines(keepends=True)
    old = [line for line in lines if not line.startswith("base") and '"none"' not in line]
    assert len(lines) - len(old) > 5
    (folder / "config.toml").write_text("".join(old))
    assert matches(short, folder) and is_finished(short, folder)
    assert read_run(folder).config == read_run(folder).config | {"peft.rank": 1}
    list(run(plain, folder, resume=True))
    list(run(plain, tmp_path / "whole"))
    assert equal(weights(folder), weights(tmp_path / "whole"))
