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
