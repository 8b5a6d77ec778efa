"""A finished run of the tiny model on three classes whose head has an order of its own, and a file of new texts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from spry.core.keys import Key
from spry.experiment.config import load_config
from spry.experiment.run import run
from spry.models.load import load_model

ORDER = ("poor", "Great", "medium")
"""How the base's trained head numbers the classes; the data's alphabet is another."""
MOODS = {"great": "good great", "medium": "fine not", "poor": "bad dull"}


@pytest.fixture(scope="session")
def reviews_csv(tmp_path_factory) -> Path:
    rows = ["number,body,mood,author"]
    for number in range(90):
        mood = list(MOODS)[number % 3]
        words = MOODS[mood].split()
        subject = ["film", "plot", "actor"][number % 9 // 3]
        text = f"the {subject} was {words[number % 2]} {'and ' * (number // 9)}{words[0]}"
        rows.append(f'{number},"{text}",{mood},{number % 5}')
    path = tmp_path_factory.mktemp("reviews") / "reviews.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="session")
def headed_model(tmp_path_factory, tiny_model, tiny_tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("headed")
    found = load_model(str(tiny_model), labels=ORDER, key=Key(8)).model
    found.config.id2label = dict(enumerate(ORDER))
    found.config.label2id = {name: number for number, name in enumerate(ORDER)}
    tokens = tiny_tokenizer(
        ["good film", "fine and not", "the plot was bad"], padding=True, return_tensors="pt"
    )
    with torch.no_grad():  # so that each class is said of some texts
        found.classifier.bias -= found(**tokens).logits.mean(dim=0)
        found.classifier.weight *= 20
        found.classifier.bias *= 20
    found.save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def finished(tmp_path_factory, headed_model, reviews_csv) -> Path:
    """The run folder; its model and data are elsewhere."""
    settings = {
        "model.name": headed_model, "data.name": reviews_csv, "data.text": '["body"]', "data.label": "mood",
        "data.partition": "iid", "data.clients": 3, "model.max_length": 12, "peft.rank": 2, "client.steps": 1,
        "schedule.rounds": 2, "schedule.clients_per_round": 3, "schedule.evaluate_every": 2,
        "method.name": "fedavg", "client.lr": 0.001,
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("finished") / "run"
    list(run(load_config("paper", [f"{key}={value}" for key, value in settings.items()]), folder))
    return folder


@pytest.fixture
def alone(finished, tmp_path) -> Path:
    """A copy of the adapter's folder only."""
    return shutil.copytree(finished / "adapter", tmp_path / "adapter")
