"""Every task goes through every command: run, resume, evaluate, predict, export, merge, report."""

from __future__ import annotations

import json
import re

import pytest
import torch
from tests.conftest import WORDS
from tests.language import tokenizer
from tests.tasks.causal_lm.setting import base
from tests.tasks.test_kinds import LABELS
from tests.tasks.test_reading import ROWS

from spry.tasks.adapter_info import read_info
from spry.tasks.kinds import TASKS, find_task, make_task


def reply(number: int) -> dict:
    return {"text": f"Which topic? number {number}", "reply": WORDS[number % 4]}


def labelled(task):
    return lambda number: {
        "text": f"{WORDS[number % 15]} {'and ' * (number // 5)}{'good' if number % 2 else 'bad'}",
        "label": LABELS[task](number),
    }


MAKERS = {**ROWS, **{task: labelled(task) for task in LABELS}, "causal-lm": reply}
"""A row of each task's data, by number."""
OPTIONS = {
    "causal-lm": ["task.prompts=text", "task.answers=reply", "task.new_tokens=3"],
    "question-answering": ["task.stride=4", "model.max_length=20"],
}
ANSWERS = {
    "causal-lm": "answer", "question-answering": "answer", "multiple-choice": "choice", "regression": "score",
    "multi-label": "labels",
}  # fmt: skip
"""The column of predictions that says what the answer is, where it is not ``label``."""


@pytest.fixture
def model(tiny_model, tmp_path):
    """A folder with a tiny random model of a task."""

    def make(task):
        if find_task(task).model_class.trains_head:
            return tiny_model
        base("llama").save_pretrained(tmp_path / "llama")
        tokenizer().save_pretrained(tmp_path / "llama")
        return tmp_path / "llama"

    return make


@pytest.mark.parametrize("task", TASKS)
def test_every_command_takes_it(task, spry, model, tmp_path):
    rows = [MAKERS[task](number) for number in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = [
        {key: cell for key, cell in row.items() if key not in {"label", "reply", "answers"}} for row in rows
    ]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    given = [
        f"task.name={task}", f"model.name={model(task)}", "data.name=rows.jsonl", "data.clients=4", "peft.rank=2",
        "client.steps=1", "schedule.rounds=1", "schedule.clients_per_round=2", "client.batch_size=4",
        *OPTIONS.get(task, []),
    ]  # fmt: skip
    said = [part for one in given for part in ("--set", one)]

    def done(*arguments):
        found = spry(*arguments)
        assert found.code == 0, (arguments, found.err)
        return found

    done("run", *said, "--out", "run")
    assert done("resume", "run", "--rounds", "2", "--json").document["rounds"] == 2
    kind = find_task(task)
    told = done("evaluate", "run", "--data", "rows.jsonl", "--json").document
    assert told[kind.score] is not None and told["loss"] > 0
    shown = done("evaluate", "run").out
    info = read_info(tmp_path / "run" / "adapter")
    assert make_task(task, info.task_options).title(info.labels) in shown
    assert bool(re.search(r"\bclass(es)?\b", shown)) == ("confusion" in told), "only classes are called so"
    done("predict", "run", "--data", "asked.jsonl", "--out", "answers.jsonl")
    answers = (tmp_path / "answers.jsonl").read_text()
    assert ANSWERS.get(task, "label") in json.loads(answers.splitlines()[0])
    done("export", "run", "adapter")
    done("predict", "adapter", "--data", "asked.jsonl", "--out", "again.jsonl")
    assert (tmp_path / "again.jsonl").read_text() == answers
    done("export", "run", "merged", "--merge")
    _merged_is_the_same(kind, tmp_path)
    done("report", "run")


def _merged_is_the_same(kind, folder):
    """Plain transformers says of the merged folder what it says with peft of the adapter's."""
    from peft import PeftModel

    info = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    start = folder / "adapter" / info["base_model_name_or_path"]
    outputs = {"num_labels": len(json.loads((folder / "adapter" / "spry.json").read_text())["labels"])}
    whole = kind.model_class.loader.from_pretrained(folder / "merged").eval()
    plain = kind.model_class.loader.from_pretrained(
        start, ignore_mismatched_sizes=True, **(outputs if kind.model_class.counted else {})
    )
    adapted = PeftModel.from_pretrained(plain, folder / "adapter").eval()
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    with torch.no_grad():
        one, other = whole(input_ids=ids)[0], adapted(input_ids=ids)[0]
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
