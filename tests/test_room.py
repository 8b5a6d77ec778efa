"""Lack of memory is told before a run begins, with what would fit."""

from __future__ import annotations

import re

import psutil
import pytest

from spry import room
from spry.core.errors import ModelError
from spry.experiment.config import load_config
from spry.planning import plan_run
from spry.room import check_room, free_bytes


@pytest.fixture
def config(tiny_model):
    given = {"model.name": str(tiny_model), "model.max_length": 16, "method.name": "fedavg"}
    return load_config("plain", {**given, "client.batch_size": 64})


def test_a_run_that_fits_is_told_nothing(config):
    assert check_room(config) is None
    assert 0 < free_bytes("cpu") <= psutil.virtual_memory().total


def test_the_micro_batch_that_is_named_fits(config, monkeypatch):
    plan = plan_run(config)
    free = plan.weight_bytes + plan.peaks[plan.method] // 3
    monkeypatch.setattr(room, "free_bytes", lambda device: free)
    told = check_room(config)
    assert told is not None and "spry memory --budget" in told
    (rows,) = re.findall(r"client.micro_batch_size=(\d+) would fit", told)
    assert 1 <= int(rows) < 64
    assert check_room(config.with_settings({"client.micro_batch_size": int(rows)})) is None
    assert "would fit" in str(check_room(config.with_settings({"client.micro_batch_size": int(rows) + 1})))


def test_weights_that_do_not_fit_are_refused(config, monkeypatch):
    monkeypatch.setattr(room, "free_bytes", lambda device: 1000)
    with pytest.raises(
        ModelError, match=r"its weights take .* in float32, and .* are free.*model\.quantization"
    ):
        check_room(config)
    unknown = config.with_settings({"model.name": "someone/something"})
    assert check_room(unknown) is None, "the run says what it is"


def test_run_compare_and_finetune_say_it_before_they_begin(config, tiny_csv, monkeypatch, tmp_path, capsys):
    import sys

    import spry
    from spry.cli.app import main
    from spry.core.errors import SpryError

    settings = {
        "model.name": config.model.name, "model.max_length": 16, "data.name": str(tiny_csv), "data.clients": 3,
        "method.name": "fedavg", "client.batch_size": 64, "schedule.rounds": 1,
    }  # fmt: skip
    said = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    plan = plan_run(config)
    free = plan.weight_bytes + plan.peaks[plan.method] // 3
    monkeypatch.setattr(room, "free_bytes", lambda device: free)
    monkeypatch.chdir(tmp_path)

    def typed(*words):
        monkeypatch.setattr(sys, "argv", ["spry", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, " ".join(capsys.readouterr().err.split())

    code, told = typed("run", *said, "--out", "run")
    assert code in {0, None} and "client.micro_batch_size=" in told
    code, told = typed("compare", *said, "--methods", "fedavg", "--seeds", "0", "--out", "both")
    assert code in {0, None} and "fedavg: A client's step is predicted to take" in told
    given = {key: value for key, value in settings.items() if key not in {"model.name", "data.name"}}
    spry.finetune(config.model.name, dataset=tiny_csv, recipe="plain", settings=given, folder="tuned")
    assert "A client's step is predicted to take" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setattr(room, "free_bytes", lambda device: 1000)
    for command in ("run", "compare"):
        code, told = typed(command, *said, "--out", f"{command}-none")
        assert code == 2 and "its weights take" in told
        assert not (tmp_path / f"{command}-none").exists()
    with pytest.raises(SpryError, match="its weights take"):
        spry.finetune(config.model.name, dataset=tiny_csv, recipe="plain", settings=given, folder="none")
