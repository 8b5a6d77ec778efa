"""A run that begins with another run's adapter."""

from __future__ import annotations

import json
import shutil

import pytest
from tests.experiment.test_run import config as config

from spry.core.errors import CheckpointError, ModelError
from spry.experiment.build import build
from spry.experiment.folder import matches, read_meta
from spry.experiment.run import run
from spry.tasks.adapter_info import read_info


@pytest.fixture
def first(config, tmp_path):
    list(run(config, tmp_path / "first"))
    return tmp_path / "first"


@pytest.fixture
def further(config, first):
    return config.with_settings({"start": str(first), "seed": 7})


def test_before_its_first_round_it_scores_what_the_adapter_scored(further, first):
    experiment = build(further)
    metrics = experiment.task.evaluate(experiment.task.init(), experiment.clients.test)
    assert metrics.accuracy == json.loads((first / "summary.json").read_text())["test_accuracy"]
    assert experiment.notes[0].startswith(
        f"training begins with the weights of {first / 'adapter'} (there: test accuracy"
    )


def test_it_notes_what_it_began_with_and_sees_if_that_has_changed(further, first, tmp_path):
    list(run(further, tmp_path / "second"))
    assert len(read_meta(tmp_path / "second")["fingerprints"]["start"]["adapter_model.safetensors"]) == 64
    assert read_info(tmp_path / "second" / "adapter").training["began_with"] == "first"
    assert matches(further, tmp_path / "second")
    other = build(further).task
    other.save_adapter({n: w + 1 for n, w in other.init().items()}, first / "adapter")
    assert not matches(further, tmp_path / "second")
    with pytest.raises(
        CheckpointError, match=r"began with the weights of another adapter: adapter_model.safetensors was"
    ):
        list(run(further.with_settings({"schedule.rounds": 5}), tmp_path / "second", resume=True))


def test_the_folder_of_the_adapter_alone_will_do_and_one_without_is_refused(config, first, tmp_path):
    alone = shutil.move(first / "adapter", tmp_path / "alone")
    build(config.with_settings({"start": str(alone)}))
    with pytest.raises(ModelError, match="holds a run that is not finished"):
        build(config.with_settings({"start": str(first)}))
