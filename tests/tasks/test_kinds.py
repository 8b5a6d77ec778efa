"""Every task of the table, from settings to a run folder, whose adapter plain peft reads."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch

from spry.core.errors import ConfigError
from spry.experiment.config import load_config, read_config
from spry.experiment.run import resume, run
from spry.inference.evaluation import evaluate
from spry.inference.loading import load_predictor
from spry.inference.merge import merge_adapter
from spry.tasks.kinds import TASKS, make_task

LABELS = {
    "classification": lambda number: "good" if number % 2 else "bad",
    "regression": lambda number: number % 7 / 2,
    "multi-label": lambda number: "|".join(
        ["good"] * (number % 2) + ["long"] * (number % 3 == 0) or ["other"]
    ),
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder, words = tmp_path_factory.mktemp("tables"), ["film", "plot", "actor", "dull", "great"]
    for name, label in LABELS.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            for number in range(60):
                mood = "good" if number % 2 else "bad"
                writer.writerow([f"{words[number % 5]} {'and ' * (number // 5)}{mood}", label(number)])
    return folder


@pytest.fixture
def config(tables, tiny_model):
    def make(task, method, **more):
        settings = {
            "task.name": task, "model.name": tiny_model, "data.name": tables / f"{task}.csv", "data.clients": 4,
            "method.name": method, "client.steps": 2, "schedule.rounds": 2, "schedule.clients_per_round": 2,
            "schedule.evaluate_every": 1, "peft.rank": 2, **more,
        }  # fmt: skip
        return load_config("plain", [f"{key}={value}" for key, value in settings.items()])

    return make


@pytest.mark.parametrize("method", ["spry", "residual", "fedavg"])
@pytest.mark.parametrize("task", LABELS)
def test_a_task_trains_and_its_folder_answers(config, task, method, tmp_path):
    events = list(run(config(task, method), tmp_path / "run"))
    kind = make_task(task)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["score"]["name"] == kind.score
    assert summary["score"]["baseline"] is not None
    assert summary[f"test_{kind.score}"] == events[-1].score
    predictor = load_predictor(tmp_path / "run" / "adapter")
    assert predictor.info.task_name == task
    columns = predictor.predict(["good film", "bad plot"], every=True)
    assert all(len(column) == 2 for column in columns.values())
    merge_adapter(tmp_path / "run" / "adapter", tmp_path / "merged")


@pytest.mark.parametrize("task", LABELS)
def test_plain_transformers_and_peft_give_the_runs_own_scores(config, task, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = tmp_path / "run"
    running, finished = run(config(task, "fedavg"), folder), None
    while finished is None:
        try:
            next(running)
        except StopIteration as stop:
            finished = stop.value
    read = AutoModelForSequenceClassification.from_pretrained(folder / "adapter")
    words = AutoTokenizer.from_pretrained(folder / "adapter")(["good film"], return_tensors="pt")
    with torch.no_grad():
        expected = read(**words).logits.numpy()
    predictor = load_predictor(folder / "adapter")
    np.testing.assert_allclose(predictor.raw(["good film"]), expected.flatten(), rtol=1e-5, atol=1e-6)
    inputs = {name: words[name] for name in ("input_ids", "attention_mask")}
    np.testing.assert_allclose(
        finished.task.logits(finished.weights, inputs).numpy(), expected, rtol=1e-5, atol=1e-6
    )


def test_the_runs_own_score_comes_out_of_its_folder(config, tmp_path):
    from spry.experiment.build import read_splits

    settings = config("regression", "fedavg")
    list(run(settings, tmp_path / "run"))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    found = evaluate(load_predictor(tmp_path / "run" / "adapter"), read_splits(settings).test)
    assert found.to_json()["mse"] == pytest.approx(summary["test_mse"], rel=1e-6)


def test_a_run_goes_on_with_its_task_and_its_options(config, tmp_path):
    settings = config("multi-label", "fedavg", **{"task.threshold": 0.25, "schedule.checkpoint_every": 1})
    running = run(settings, tmp_path / "run")
    for _ in range(2):  # what was started, and a round
        next(running)
    running.close()
    assert read_config(tmp_path / "run" / "config.toml").task.model_extra == {
        "separator": None,
        "threshold": 0.25,
    }
    assert [event.number for event in list(resume(tmp_path / "run"))[1:]] == [1]
    assert load_predictor(tmp_path / "run" / "adapter").kind == make_task("multi-label", {"threshold": 0.25})


def test_every_task_is_in_the_table():
    assert set(LABELS) <= set(TASKS)
    assert all(make_task(name).name == name for name in TASKS)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"task.name": "regresion"}, "there is no task 'regresion'. Did you mean 'regression'"),
        ({"task.name": "regression", "task.threshold": 0.5}, "task 'regression' has no option 'threshold'"),
        ({"task.name": "multi-label", "task.threshold": 2.0}, "setting task.threshold is 2.0"),
        ({"task.threshold": 0.5}, "set task.name, too"),
    ],
)
def test_a_mistake_in_the_table_of_the_task_is_told(settings, says):
    with pytest.raises(ConfigError, match=says):
        load_config("plain", settings)
