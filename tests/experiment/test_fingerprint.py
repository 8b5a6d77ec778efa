"""Fingerprints change with what decides a run's weights, and with nothing else."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace

import pytest
import torch
from torch import nn

from spry.data.dataset import Dataset, Splits
from spry.experiment import fingerprint
from spry.experiment.config import Config

SPLITS = Splits(
    train=Dataset(name="a", texts=["x", "y"], labels=[0, 1], label_names=("no", "yes"), groups=["p", "q"]),
    test=Dataset(name="b", texts=[("x", "z")], labels=[1], label_names=("no", "yes")),
)


@pytest.mark.parametrize(
    "change",
    [
        {"texts": ["x", "y "]},
        {"texts": ["y", "x"], "labels": [1, 0]},
        {"labels": [1, 1]},
        {"label_names": ("yes", "no")},
        {"groups": ["p", "p"]},
        {"groups": None},
    ],
)
def test_every_part_of_the_data_counts(change):
    other = replace(SPLITS, train=replace(SPLITS.train, **change))
    assert other.fingerprint != SPLITS.fingerprint


def test_names_of_files_do_not_count_and_parts_are_told_apart():
    moved = replace(SPLITS, train=replace(SPLITS.train, name="elsewhere"))
    assert moved.fingerprint == SPLITS.fingerprint
    assert replace(SPLITS, test=None).fingerprint != SPLITS.fingerprint
    swapped = Splits(train=SPLITS.test, test=SPLITS.train)
    assert swapped.fingerprint != SPLITS.fingerprint


@pytest.fixture
def model(tiny_model, tmp_path):
    return shutil.copytree(tiny_model, tmp_path / "model")


def test_files_of_a_model_are_hashed_whole(model):
    config = Config().with_settings({"model.name": str(model)})
    before = fingerprint.model_files(config)
    weights = model / "model.safetensors"
    assert before["model.safetensors"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert {"config.json", "tokenizer.json", "tokenizer_config.json"} <= before.keys()
    (model / "README.md").write_text("about")
    (model / "pytorch_model.bin").write_bytes(b"not loaded beside safetensors")
    assert fingerprint.model_files(config) == before
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    (told,) = fingerprint.changes(before, fingerprint.model_files(config))
    assert told.startswith(f"model.safetensors was {before['model.safetensors'][:12]}, is ")


def test_a_gguf_file_is_hashed(tmp_path):
    (tmp_path / "base.gguf").write_bytes(b"weights")
    config = Config().with_settings({"model.name": str(tmp_path)})
    assert fingerprint.model_files(config) == {"base.gguf": hashlib.sha256(b"weights").hexdigest()}


def test_weights_are_hashed_where_there_are_no_files():
    config = Config().with_settings({"model.name": "nobody/nothing-of-that-name"})
    module = nn.Linear(3, 2).to(torch.bfloat16)
    before = fingerprint.of_model(config, module)
    assert before.keys() == {"weights"}
    assert fingerprint.of_model(config, module) == before
    with torch.no_grad():
        module.bias[1] += 1
    assert fingerprint.of_model(config, module) != before
    assert fingerprint.of_model(config, module.float())["weights"] != before["weights"]


def test_changes_name_what_came_and_what_went():
    old, new = {"a": "1" * 64, "b": "2" * 64}, {"b": "3" * 64, "c": "4" * 64}
    assert fingerprint.changes(old, new) == ["a is gone", f"b was {'2' * 12}, is {'3' * 12}", "c is new"]
    assert fingerprint.changes(old, old) == []
