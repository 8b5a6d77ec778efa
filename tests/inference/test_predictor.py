"""A loaded adapter says what the run's task said, for each text by itself and in the order of the head."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from spry.core.errors import ModelError
from spry.data.dataset import Dataset
from spry.experiment.build import build, read_splits
from spry.experiment.checkpoint import read_checkpoint
from spry.experiment.config import read_config
from spry.inference.evaluation import evaluate
from spry.inference.loading import load_predictor


@pytest.fixture(scope="module")
def predictor(finished):
    return load_predictor(finished / "adapter")


def test_it_scores_as_the_task_does_and_names_classes_as_the_head_numbers_them(finished, predictor):
    config = read_config(finished / "config.toml")
    experiment = build(config)
    state = read_checkpoint(finished, experiment.algorithm.init(experiment.task.init()))
    test = read_splits(config).test
    texts = list(test.texts)
    dataset = Dataset(name="", texts=texts, labels=[0] * len(texts), label_names=test.label_names)
    with torch.no_grad():
        expected = experiment.task.logits(
            state.weights, experiment.task.encode(dataset, max_length=12).batch(range(len(texts)))
        )
    assert predictor.info.labels == ("poor", "great", "medium")
    answers, _ = predictor.answers(texts, batch_size=4)
    np.testing.assert_allclose(np.stack(answers), expected.numpy(), rtol=1e-4, atol=1e-5)


def test_the_runs_own_test_score_comes_out_exactly(finished, predictor):
    test = read_splits(read_config(finished / "config.toml")).test.relabelled(predictor.info.labels)
    summary = json.loads((finished / "summary.json").read_text())
    assert evaluate(predictor, test).metrics.accuracy == summary["test_accuracy"]


def test_probabilities_are_torchs(predictor):
    texts = ["a good film", "bad"]
    shares = torch.tensor(predictor.raw(texts)).view(2, -1).softmax(-1)
    said = predictor.predict(texts, every=True)
    for name, column in zip(predictor.info.labels, shares.T, strict=True):
        assert said[f"probability_{name}"] == pytest.approx(column.tolist(), abs=1e-4), name


def test_progress_counts_every_text(predictor):
    told = []
    predictor.answers(["good"] * 5, batch_size=2, progress=told.append)
    assert told == [2, 2, 1]


def test_a_base_that_is_gone_is_asked_for_and_a_copy_of_it_will_do(alone, headed_model):
    logits = load_predictor(alone).raw(["a good film"])
    (alone / "base" / "pretrained.safetensors").unlink()
    with pytest.raises(ModelError, match=r"headed.*are gone from its folder. .*--base FOLDER"):
        load_predictor(alone)
    found = load_predictor(alone, base=headed_model)
    assert found.notes == ()
    np.testing.assert_array_equal(found.raw(["a good film"]), logits)


def test_another_base_is_told_and_one_of_another_shape_is_refused(
    alone, headed_model, tmp_path, tiny_tokenizer
):
    from transformers import AutoModelForSequenceClassification

    from tests.models.conftest import make

    other = shutil.copytree(headed_model, tmp_path / "other")
    model = AutoModelForSequenceClassification.from_pretrained(other)
    model.bert.embeddings.word_embeddings.weight.data += 1
    model.save_pretrained(other)
    (note,) = load_predictor(alone, base=other).notes
    assert "not those that the adapter was trained on" in note
    make("bert").save_pretrained(other)
    with pytest.raises(ModelError, match="pretrained weights are missing or have the wrong shape"):
        load_predictor(alone, base=other)


def test_a_base_without_its_folder_is_found_by_a_name_that_means_something(alone, monkeypatch):
    info = json.loads((alone / "spry.json").read_text())
    info["base"] |= {"place": "elsewhere", "name": "headed0"}
    (alone / "spry.json").write_text(json.dumps(info))
    with pytest.raises(ModelError, match="headed0, are not in its folder"):
        load_predictor(alone)
    info["base"]["name"] = "package:no_such_package"
    (alone / "spry.json").write_text(json.dumps(info))
    with pytest.raises(ModelError, match="pip install no-such-package"):
        load_predictor(alone)
