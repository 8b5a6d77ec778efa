"""What a run evaluates beside its test part: the validation part, and the start."""

from __future__ import annotations

import json

from tests.experiment.test_run import config as config
from tests.experiment.test_run import equal, weights

from spry.experiment import log
from spry.experiment.build import build
from spry.experiment.folder import SUMMARY
from spry.experiment.run import run
from spry.tasks.model_task import ModelTask


def test_a_validation_part_is_evaluated_beside_the_test_part(config, tmp_path):
    list(run(config.with_settings({"data.validation": 0.1}), tmp_path / "run"))
    known = [
        (
            entry["validation_accuracy"] is not None,
            entry["validation_loss"] is not None,
            entry["test_loss"] is not None,
        )
        for entry in log.read_rounds(tmp_path / "run")
    ]
    assert known == [(even, even, even) for even in (False, True, False, True)]
    summary = json.loads((tmp_path / "run" / SUMMARY).read_text())
    assert 0 <= summary["validation_accuracy"] <= 1
    plain, more = build(config).clients, build(config.with_settings({"data.validation": 0.1})).clients
    assert [b["labels"].tolist() for b in plain.test] == [b["labels"].tolist() for b in more.test]
    assert len(more.clients[0].data) < len(plain.clients[0].data)


def test_the_start_is_evaluated_too_and_stands_in_the_first_line(config, tmp_path):
    _, first, *others = run(config, tmp_path / "run")
    experiment = build(config)
    start = experiment.task.evaluate(experiment.task.init(), experiment.clients.test)
    assert first.start == {"test": start}
    assert all(record.start == {} for record in others)
    told, *rest = log.read_rounds(tmp_path / "run")
    assert told["start"] == {"test_accuracy": start.accuracy, "test_loss": start.loss}
    assert all("start" not in entry for entry in rest)
    _, plain, *_ = run(config.with_settings({"schedule.evaluate_start": False}), tmp_path / "plain")
    assert plain.start == {}
    assert equal(weights(tmp_path / "plain"), weights(tmp_path / "run"))


def test_runs_that_begin_alike_evaluate_the_start_once(config, tmp_path, monkeypatch):
    seen = []
    real = ModelTask.evaluate
    monkeypatch.setattr(
        ModelTask, "evaluate", lambda self, w, batches: seen.append(len(w)) or real(self, w, batches)
    )
    once = config.with_settings({
        "schedule.rounds": 1,
        "schedule.evaluate_every": 2,
        "data.held_out": 0.0,
        "seed": 7,
    })
    changes = {"a": {}, "b": {"method.name": "fedavg"}, "c": {"seed": 8}, "d": {"model.max_length": 4}}
    counts = []
    for name, changed in changes.items():
        seen.clear()
        list(run(once.with_settings(changed), tmp_path / name))
        counts.append(len(seen))
    assert counts[0] == counts[2] == counts[3] == counts[1] + 2  # the test part, and that for validation
