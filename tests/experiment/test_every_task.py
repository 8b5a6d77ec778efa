"""Every task over every runtime gives the same bits, and a comparison ranks it by its own score."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from tests.cli.test_tasks import MAKERS, OPTIONS
from tests.experiment.test_node import Federation
from tests.language import tokenizer
from tests.tasks.causal_lm.setting import base

from spry.compare.compare import compare_methods
from spry.experiment.checkpoint import CHECKPOINT_FILE
from spry.experiment.config import load_config
from spry.experiment.log import read_rounds
from spry.experiment.run import run
from spry.tasks.kinds import TASKS, find_task


@pytest.fixture
def config(tiny_model, tmp_path):
    def make(task):
        rows = [MAKERS[task](number) for number in range(40)]
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        model = tiny_model
        if not find_task(task).model_class.trains_head:
            model = tmp_path / "llama"
            base("llama").save_pretrained(model)
            tokenizer().save_pretrained(model)
        given = [
            f"task.name={task}", f"model.name={model}", f"data.name={tmp_path / 'rows.jsonl'}", "data.clients=4",
            "peft.rank=2", "client.steps=2", "schedule.rounds=2", "schedule.clients_per_round=2", "client.batch_size=4",
            "schedule.evaluate_every=1", *OPTIONS.get(task, []),
        ]  # fmt: skip
        return load_config("plain", given)

    return make


def same(here, there):
    left, right = (load_file(folder / CHECKPOINT_FILE) for folder in (here, there))
    assert left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
    for one, other in zip(read_rounds(here), read_rounds(there), strict=True):
        told = {name for name in one if name.startswith(("test_", "generalized_", "personalized_"))}
        assert told and {name: one[name] for name in told} == {name: other[name] for name in told}


@pytest.mark.parametrize("task", TASKS)
def test_over_messages(task, config, tmp_path):
    settings = config(task)
    list(run(settings, tmp_path / "here"))
    there = settings.with_settings({"runtime.name": "flower"})
    list(run(there, tmp_path / "there", courier=Federation(there, [{}, {}])))
    same(tmp_path / "here", tmp_path / "there")


@pytest.mark.parametrize("task", ["causal-lm", "question-answering", "multiple-choice"])
def test_over_two_processes(task, config, tmp_path):
    settings = config(task)
    list(run(settings, tmp_path / "here"))
    list(run(settings.with_settings({"runtime.workers": 2}), tmp_path / "there"))
    same(tmp_path / "here", tmp_path / "there")


@pytest.mark.parametrize("task", ["causal-lm", "question-answering", "multi-answer"])
def test_a_comparison_ranks_by_the_tasks_own_score(task, config, tmp_path):
    settings = config(task).with_settings({"tune.grid.lr": [1e-3, 3e-2], "tune.rounds": 1})
    list(compare_methods(settings, ["head_only", "spry"], [0], tmp_path / "all"))
    document = json.loads((tmp_path / "all" / "comparison.json").read_text())
    kind = find_task(task)
    assert document["score"]["name"] == kind.score
    assert document["score"]["higher_is_better"] == kind.higher_is_better
    for method, tried in document["tuning"]["methods"].items():
        best = (max if kind.higher_is_better else min)(point["score"] for point in tried["points"])
        chosen = next(point for point in tried["points"] if point["settings"] == tried["chosen"])
        assert len(tried["points"]) == 2 and chosen["score"] == best, method
