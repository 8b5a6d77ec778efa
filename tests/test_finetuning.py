"""spry.finetune: objects and names give the same run, and the model that comes back is the one that was scored."""

from __future__ import annotations

import json

import datasets
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import spry
from spry.core.errors import CheckpointError, ConfigError, DataError, ModelError
from spry.experiment.config import read_record
from spry.experiment.run import resume

FEW = {
    "schedule.clients_per_round": 3,
    "client.batch_size": 4,
    "data.clients": 6,
    "schedule.evaluate_every": 2,
}


@pytest.fixture
def asked(tiny_model):
    return {"model": str(tiny_model), "rounds": 2, "settings": FEW, "progress": False}


@pytest.fixture
def frame(tiny_csv):
    return pd.read_csv(tiny_csv)


def weights(folder):
    return load_file(folder / "checkpoint.safetensors")


def equal(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_a_frame_a_dataset_rows_and_the_file_train_the_same_weights(asked, frame, tiny_csv, tmp_path):
    given = {
        "file": tiny_csv,
        "frame": frame,
        "dataset": datasets.Dataset.from_pandas(frame),
        "rows": frame.to_dict("records"),
    }
    made = {}
    for kind, data in given.items():
        _, _, folder = spry.finetune(**asked, dataset=data, test=data, folder=tmp_path / kind)
        made[kind] = weights(folder)
    assert all(equal(made["file"], other) for other in made.values())


def test_the_model_that_comes_back_scores_what_the_history_says(asked, frame, tmp_path, tiny_tokenizer):
    model, history, folder = spry.finetune(**asked, dataset=frame, test=frame, folder=tmp_path / "run")
    tokens = tiny_tokenizer(frame["text"].tolist(), padding=True, return_tensors="pt")
    with torch.no_grad():
        found = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).logits.argmax(1)
    named = [model.config.id2label[int(number)] for number in found]
    right = sum(label == said for label, said in zip(frame["label"], named, strict=True)) / len(frame)
    assert right == history[-1]["test_accuracy"]
    trained = weights(folder)
    for name in (key.removeprefix("weights/") for key in trained if key.startswith("weights/")):
        assert torch.equal(model.get_parameter(name), trained[f"weights/{name}"]), name
    assert not model.training
    assert json.loads((folder / "adapter" / "spry.json").read_text())["labels"] == ["negative", "positive"]


def test_folders_may_be_given_as_paths_and_a_tokenizer_by_its_name(asked, frame, tiny_model, tmp_path):
    _, _, plain = spry.finetune(**asked, dataset=frame, folder=tmp_path / "plain")
    paths = {**asked, "model": tiny_model, "tokenizer": tiny_model}
    _, _, folder = spry.finetune(**paths, dataset=frame, folder=tmp_path / "paths")
    assert equal(weights(folder), weights(plain))
    with pytest.raises(ModelError, match="nowhere: has no usable tokenizer"):
        spry.finetune(**{**asked, "tokenizer": "nowhere"}, dataset=frame)
    with pytest.raises(ModelError, match="int: is no Hugging Face sequence classifier"):
        spry.finetune(**{**asked, "model": 3}, dataset=frame)


def test_a_model_object_is_the_base_of_what_comes_back(asked, frame, tiny_model, tiny_tokenizer, tmp_path):
    from transformers import AutoModelForSequenceClassification

    given = AutoModelForSequenceClassification.from_pretrained(tiny_model, num_labels=2)
    own = {**asked, "model": given, "tokenizer": tiny_tokenizer}
    model, _, folder = spry.finetune(**own, dataset=frame, clients="author", folder=tmp_path / "run")
    assert model.get_base_model() is given
    config = read_record(folder / "config.toml")
    assert (config.data.partition, config.data.column) == ("column", "author")


def test_a_run_of_objects_is_gone_on_with_in_python_only(asked, frame, tmp_path):
    place = tmp_path / "run"
    spry.finetune(**asked, dataset=frame, folder=place)
    with pytest.raises(CheckpointError, match=r"begun in Python with objects .*\(data\).*spry\.finetune"):
        list(resume(place))
    longer = {**asked, "rounds": 3}
    _, history, _ = spry.finetune(**longer, dataset=frame, folder=place, resume=True)
    unbroken = spry.finetune(**longer, dataset=frame, folder=tmp_path / "unbroken").folder
    assert len(history) == 3
    assert equal(weights(place), weights(unbroken))


def test_objects_get_a_folder_of_their_own_and_names_that_of_the_same_run(
    asked, frame, tiny_csv, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    first, second = (spry.finetune(**asked, dataset=frame).folder for _ in range(2))
    assert (first.name, second.name) == ("DataFrame-residual-s0", "DataFrame-residual-s0-2")
    first, second = (spry.finetune(**asked, dataset=tiny_csv).folder for _ in range(2))
    assert first == second


def test_the_recipe_counts_unless_something_is_said(asked, frame, tmp_path):
    said = {**asked, "settings": {**FEW, "client.lr": 0.5}}
    folder = spry.finetune(**said, dataset=frame, folder=tmp_path / "run", seed=3).folder
    config = read_record(folder / "config.toml")
    assert (config.base, config.client.lr, config.peft.rank, config.seed) == ("quickstart", 0.5, 16, 3)


@pytest.mark.parametrize(
    ("wrong", "error", "told"),
    [
        ({"dataset": 7}, DataError, "data is an int"),
        ({"text": "body"}, DataError, "there is no column 'body'"),
        ({"settings": {"client.lrr": 1}}, ConfigError, "client.lr"),
        ({"settings": {"client.lr": "fast"}}, ConfigError, "client.lr"),
        (
            {"settings": {**FEW, "schedule.rounds": 3}},
            ConfigError,
            r"schedule\.rounds: given as an argument and",
        ),
        ({"recipe": "quikstart"}, ConfigError, "quickstart"),
        ({"model": torch.nn.Linear(2, 2)}, ModelError, "no Hugging Face sequence classifier"),
    ],
)
def test_what_cannot_be_used_is_refused_and_leaves_no_folder(wrong, error, told, asked, frame, tmp_path):
    with pytest.raises(error, match=told):
        spry.finetune(**{**asked, "dataset": frame, "folder": tmp_path / "run", **wrong})
    assert not (tmp_path / "run").exists()
