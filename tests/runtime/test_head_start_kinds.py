"""The round of sums for numbers and labels: one head whoever has what, better than an answer without a model."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from spry.core.keys import Key
from spry.data.clients import make
from spry.data.dataset import Dataset
from spry.data.federation import Federation
from spry.experiment.build import build
from spry.experiment.config import load_config
from spry.experiment.log import read_rounds
from spry.experiment.run import run
from spry.federated.closed_head.moments import HeadMoments
from spry.federated.closed_head.moments_codec import encode_moments
from spry.runtime.head_start import closed_form_head
from spry.tasks.kinds import make_task
from spry.tasks.model_task import ModelTask
from tests.conftest import WORDS

COUNT = 48
NAMES = ("good", "long", "film")
KINDS = ("regression", "multi-label")


def texts():
    draw = np.random.default_rng(0)
    return [
        " ".join([*draw.choice(WORDS, size=draw.integers(1, 9)), ("bad", "good")[i % 2]])
        for i in range(COUNT)
    ]


def labelled(kind, text):
    words = text.split()
    if kind.name == "regression":
        return 100.0 + len(words)
    said = ("good" in words, len(words) > 5, "film" in words)
    return tuple(np.flatnonzero(said).tolist())


def reviews(kind):
    labels, names = [labelled(kind, text) for text in texts()], NAMES if kind.name == "multi-label" else ()
    return Dataset(name="reviews", texts=texts(), labels=labels, label_names=names, target=kind.target)


@pytest.fixture(scope="module", params=KINDS)
def task(request, tiny_model):
    kind = make_task(request.param)
    return ModelTask(str(tiny_model), kind, labels=kind.outputs(reviews(kind)), key=Key(3))


def dealt(task, parts, batch_size=4):
    data = task.encode(reviews(task.kind), max_length=16)
    places = {str(c): np.asarray(part, dtype=np.int32) for c, part in enumerate(parts)}
    return Federation(clients=make(places, data, Key(0), held_out=0), test=(), batch_size=batch_size)


PARTS = {
    "one client": [range(COUNT)],
    "by one": [[i] for i in range(COUNT)],
    "some empty": [[], range(20), [], range(20, COUNT)],
    "backwards": [range(COUNT - 1, 29, -1), range(29, -1, -1)],
}


@pytest.mark.parametrize("how", PARTS)
@pytest.mark.parametrize("batch_size", [1, 5])
def test_any_deal_and_batch_gives_the_head_of_all_examples(task, how, batch_size):
    whole = closed_form_head(task, dealt(task, PARTS["one client"], batch_size=COUNT))
    found = closed_form_head(task, dealt(task, PARTS[how], batch_size=batch_size))
    head, batch = task.linear_head(), task.encode(reviews(task.kind)).batch(range(COUNT))
    features = head.read(task.init(), batch)
    left, right = (F.linear(features, h.weights[head.weight], h.weights[head.bias]) for h in (whole, found))
    torch.testing.assert_close(left, right, atol=1e-2, rtol=0)
    assert found.cost.examples == COUNT and found.cost.clients == sum(len(part) > 0 for part in PARTS[how])


def test_it_beats_an_answer_without_a_model(task):
    data = reviews(task.kind)
    baseline = task.kind.baseline(data, data)
    found = closed_form_head(task, dealt(task, PARTS["by one"]))
    metrics = task.evaluate({**task.init(), **found.weights}, [task.encode(data).batch(range(COUNT))])
    score = metrics.values()[task.kind.score]
    if task.kind.higher_is_better:
        assert score > baseline
    else:
        assert score < 0.7 * baseline


def test_the_ledger_is_what_the_codec_writes(task):
    data, head, up = dealt(task, PARTS["backwards"]), task.linear_head(), 0
    for client in range(2):
        sums = HeadMoments.empty(head.classes, head.features)
        for batch in data.training_once(client):
            features = head.read(task.init(), batch)
            sums = sums.add(HeadMoments.of(features, batch["labels"], head.classes))
        up += len(encode_moments(client, sums))
    assert closed_form_head(task, data).cost.bytes_up == up


def test_more_clients_are_asked_only_where_a_label_lacks(task):
    found = closed_form_head(task, dealt(task, PARTS["by one"]), number=1)
    assert (found.cost.clients == 1) == (task.kind.name == "regression")


@pytest.mark.parametrize("name", KINDS)
def test_a_run_begins_there_and_keeps_it(name, tiny_model, tmp_path):
    kind = make_task(name)
    with (tmp_path / "reviews.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for text in texts():
            label = labelled(kind, text)
            cell = label if name == "regression" else "|".join(NAMES[number] for number in label) or "[]"
            writer.writerow([text, cell])
    settings = {
        "task.name": name, "model.name": tiny_model, "data.name": tmp_path / "reviews.csv", "data.clients": 4,
        "client.steps": 2, "schedule.rounds": 2, "schedule.evaluate_every": 1, "peft.rank": 2, "head.start": "auto",
        "method.name": "fedavg",
    }  # fmt: skip
    config = load_config("plain", [f"{key}={value}" for key, value in settings.items()])
    *_, last = run(config, tmp_path / "run")
    experiment = build(config)
    assert experiment.closed_form
    fitted = closed_form_head(experiment.task, experiment.clients, key=experiment.key).weights
    assert all(torch.equal(last.state.weights[name], fitted[name]) for name in fitted)
    start = read_rounds(tmp_path / "run")[0]["start"][f"test_{kind.score}"]
    score = experiment.task.score
    assert start > score.baseline if kind.higher_is_better else start < score.baseline
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["head"]["left_out"] == {}
