"""Question answering and multiple choice from settings to a run folder, whose adapter transformers and peft read."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from spry.cli.app import app
from spry.core.errors import SpryError
from spry.experiment.build import read_splits
from spry.experiment.config import load_config
from spry.experiment.run import run
from spry.inference.evaluation import evaluate
from spry.inference.loading import load_predictor
from spry.inference.merge import merge_adapter
from spry.tasks.card import HERE
from spry.tasks.kinds import make_task
from tests.conftest import WORDS

METHODS = ["spry", "residual", "fedavg"]


def question(number: int) -> dict:
    context = " ".join(WORDS[(number + 3 * place) % 15] for place in range(10 + number % 25))
    answer = context.split(" ")[number % 7]
    told = [{"text": answer, "answer_start": context.index(answer)}] if number % 3 else []
    return {"id": f"q{number}", "context": context, "question": f"{WORDS[number % 15]} is", "answers": told}


def passage(number: int) -> dict:
    answers = [{"text": WORDS[(number + k) % 15], "label": (number + k) % 2} for k in range(3)]
    questions = [
        {"question": f"{word} is", "answers": answers, "idx": k} for k, word in enumerate(("film", "plot"))
    ]
    return {"idx": number, "passage": {"text": f"the {WORDS[number % 15]} film", "questions": questions}}


def choice(number: int) -> dict:
    options = [WORDS[(number + k) % 15] for k in range(2 + number % 3)]
    return {"question": f"{WORDS[number % 15]} {number % 7} is", "choices": options, "label": number % 2}


ROWS = {"question-answering": question, "multi-answer": passage, "multiple-choice": choice}
OPTIONS = {"question-answering": {"task.stride": 4, "task.longest_answer": 3, "model.max_length": 20}}
TEXTS = {
    "question-answering": [("film is", "the film was good and the plot was bad " * 4), ("plot is", "dull")],
    "multi-answer": [("the film", "is good"), ("the plot", "is bad")],
    "multiple-choice": [(("film is", "good"), ("film is", "bad")), (("a", "b"), ("a", "c"), ("a", "d"))],
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    for task, row in ROWS.items():
        text = "".join(json.dumps(row(number)) + "\n" for number in range(40))
        (folder / f"{task}.jsonl").write_text(text)
    return folder


@pytest.fixture
def config(tables, tiny_model):
    def make(task, method, **more):
        settings = {
            "task.name": task, "model.name": tiny_model, "data.name": tables / f"{task}.jsonl", "data.clients": 4,
            "method.name": method, "client.steps": 2, "schedule.rounds": 2, "schedule.clients_per_round": 2,
            "schedule.evaluate_every": 1, "peft.rank": 2, **OPTIONS.get(task, {}), **more,
        }  # fmt: skip
        return load_config("plain", [f"{key}={value}" for key, value in settings.items()])

    return make


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", ROWS)
def test_a_task_trains_and_its_folder_answers(config, task, method, tmp_path):
    settings = config(task, method)
    events = list(run(settings, tmp_path / "run"))
    kind, summary = make_task(task), json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["score"]["name"], events[-1].score) == (kind.score, summary[f"test_{kind.score}"])
    assert 0 < summary["score"]["baseline"] < 1
    predictor = load_predictor(tmp_path / "run" / "adapter")
    found = evaluate(predictor, read_splits(settings).test)
    assert found.to_json()[kind.score] == pytest.approx(summary[f"test_{kind.score}"])
    columns = predictor.predict(TEXTS[task], every=True)
    assert all(len(column) == 2 for column in columns.values())


@pytest.mark.parametrize("task", ROWS)
def test_the_cards_lines_run_and_the_folder_merges(config, task, tmp_path):
    folder = tmp_path / "run" / "adapter"
    list(run(config(task, "fedavg"), tmp_path / "run"))
    merge_adapter(folder, tmp_path / "merged")
    for place in (folder, tmp_path / "merged"):
        card = (place / "README.md").read_text().split("```python\n")[1].split("```")[0]
        scope: dict = {}
        with torch.no_grad():
            exec(card.replace(HERE, str(place)), scope)
        if task == "question-answering":
            assert isinstance(scope["answer"], str)
            assert scope["scores"].start_logits.shape == scope["inputs"]["input_ids"].shape
        if task == "multiple-choice":
            assert scope["choice"] in {0, 1}


def test_the_command_line_predicts_and_evaluates(config, tables, tmp_path):
    list(run(config("question-answering", "fedavg"), tmp_path / "run"))
    data = str(tables / "question-answering.jsonl")
    out = tmp_path / "answers.jsonl"
    said = CliRunner().invoke(app, ["predict", str(tmp_path / "run"), "--data", data, "--out", str(out)])
    assert said.exit_code == 0, said.output
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows] == [f"q{number}" for number in range(40)]
    assert all(row["answer"] in row["context"] for row in rows)
    told = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run"), "--data", data, "--json"])
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert found["examples"] == 40
    assert found["baseline"] == pytest.approx(14 / 40)
    assert found["best_f1"] >= found["f1"]


def test_one_text_answers_from_the_command_line(config, tmp_path):
    list(run(config("question-answering", "fedavg"), tmp_path / "run"))
    asked = ["--text", "film is", "--text", "the film was good"]
    said = CliRunner().invoke(app, ["predict", str(tmp_path / "run"), *asked])
    assert said.exit_code == 0, said.output
    assert said.stdout.splitlines()[0] == "question,context,answer,start,probability,no_answer_probability"


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"head.start": "closed-form"}, "learns no classes"),
        ({"peft.exact": "last_block"}, "no last block of which a single position"),
        ({"task.stride": 16}, "the stride is 16 tokens in windows of 20"),
    ],
)
def test_what_question_answering_cannot_do_is_refused_before_the_first_round(config, setting, says, tmp_path):
    with pytest.raises(SpryError, match=says):
        next(run(config("question-answering", "spry", **setting), tmp_path / "run"))
    assert not (tmp_path / "run").exists()
