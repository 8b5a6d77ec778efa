"""A language model from a file to a run folder, whose adapter plain peft and transformers read, and which answers."""

import csv
import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from spry.experiment.build import read_splits
from spry.experiment.config import load_config
from spry.experiment.run import run
from spry.inference.evaluation import evaluate
from spry.inference.loading import load_predictor
from spry.inference.merge import merge_adapter
from tests.language import tokenizer
from tests.tasks.causal_lm.setting import KINDS, base

WORDS = ("Sports", "World", "Business", "Science")
CHAT = [{"role": "user", "content": "Which topic? number 3"}, {"role": "assistant", "content": "Science"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("language")
    for kind in KINDS:
        base(kind).save_pretrained(made / kind)
        tokenizer().save_pretrained(made / kind)
    rows = [(f"Which topic? number {i}", WORDS[i % 4]) for i in range(40)]
    with (made / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("question", "reply"), *rows])
    chats = [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in rows
    ]
    (made / "chats.jsonl").write_text("\n".join(map(json.dumps, chats)))
    (made / "book.txt").write_text("\n\n".join(f"{q}\n{a}" for q, a in rows))
    return made


DATA = {
    "pairs.csv": {"task.prompts": "question", "task.answers": "reply"},
    "chats.jsonl": {"task.messages": "messages"},
    "book.txt": {},
}


@pytest.fixture
def config(folder):
    def make(kind, data, method, **more):
        settings = {
            "task.name": "causal-lm", "model.name": folder / kind, "data.name": folder / data, "data.clients": 3,
            "method.name": method, "client.steps": 2, "schedule.rounds": 2, "schedule.clients_per_round": 2,
            "schedule.evaluate_every": 1, "peft.rank": 2, "task.new_tokens": 4, **DATA[data], **more,
        }  # fmt: skip
        return load_config("plain", [f"{key}={value}" for key, value in settings.items()])

    return make


@pytest.mark.parametrize(
    ("kind", "data", "method"),
    [
        ("llama", "pairs.csv", "spry"),
        ("llama", "chats.jsonl", "residual"),
        ("gpt2", "book.txt", "fedavg"),
        ("gpt2", "pairs.csv", "fedmezo"),
    ],
)
def test_it_trains_and_its_folder_answers(config, kind, data, method, tmp_path):
    settings = config(kind, data, method)
    list(run(settings, tmp_path / "run"))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["score"]["name"] == "perplexity" and not summary["score"]["higher_is_better"]
    assert summary["score"]["baseline"] > 1
    predictor = load_predictor(tmp_path / "run" / "adapter")
    named = {"pairs.csv": ("question", "reply"), "chats.jsonl": ("messages",), "book.txt": ("text",)}
    assert predictor.info.text == named[data]
    found = evaluate(predictor, read_splits(settings).test)
    assert found.to_json()["perplexity"] == pytest.approx(summary["test_perplexity"], rel=1e-5)
    assert len(predictor.predict(["Which topic?", "a"])["answer"]) == 2
    merge_adapter(tmp_path / "run" / "adapter", tmp_path / "merged")


@pytest.mark.parametrize("kind", KINDS)
def test_plain_peft_gives_the_runs_own_logits(config, kind, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    running, finished = run(config(kind, "pairs.csv", "fedavg"), tmp_path / "run"), None
    while finished is None:
        try:
            next(running)
        except StopIteration as stop:
            finished = stop.value
    adapter = tmp_path / "run" / "adapter"
    read = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(adapter / "base"), adapter)
    words = AutoTokenizer.from_pretrained(adapter)
    assert words.chat_template == tokenizer().chat_template
    inputs = dict(words(["Which topic?"], return_tensors="pt"))
    inputs.pop("token_type_ids", None)
    with torch.no_grad():
        expected = read(**inputs).logits.numpy()
    own = finished.task.logits(finished.weights, inputs).numpy()
    np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-5)


def test_commands(config, tmp_path, folder):
    from spry.cli.app import app

    list(run(config("llama", "chats.jsonl", "residual"), tmp_path / "run"))
    runner, adapter = CliRunner(), str(tmp_path / "run")
    said = runner.invoke(app, ["predict", adapter, "--text", "Which topic? number 5"])
    assert said.exit_code == 0 and said.stdout.startswith("messages,answer\n"), said.output
    told = runner.invoke(app, ["evaluate", adapter, "--data", str(folder / "chats.jsonl"), "--json"])
    assert json.loads(told.stdout)["perplexity"] > 1, told.output
    shown = runner.invoke(app, ["evaluate", adapter])
    found = json.loads(runner.invoke(app, ["evaluate", adapter, "--json"]).stdout)
    assert shown.exit_code == 0 and f"perplexity {found['perplexity']:.4g} " in shown.stdout, shown.output
    assert f"token accuracy {100 * found['token_accuracy']:.1f} %" in shown.stdout, shown.output


def test_free_answers_stand_in_the_report_and_on_the_screen(config, tmp_path):
    from spry.cli.app import app
    from spry.report.page import write_report

    list(run(config("llama", "pairs.csv", "head_only", **{"task.generate": True}), tmp_path / "run"))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    samples = summary["test_details"]["samples"]
    assert 1 <= len(samples) <= 5 and all("Which topic?" in sample["prompt"] for sample in samples)
    page = write_report([tmp_path / "run"], tmp_path / "report").page.read_text()
    table = page[page.index("<h2>Free answers, test part</h2>") :].partition("</table>")[0]
    assert 'class="texts"' in table
    for sample in samples:
        assert f"<td>{sample['expected']}</td>" in table and sample["answer"].split("<")[0] in table
    shown = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run")])
    assert shown.exit_code == 0 and "free answers" in shown.stdout, shown.output
    assert "exact match" in shown.stdout and samples[0]["expected"] in shown.stdout


def test_a_tokenizer_without_a_template_names_the_remedy(config, folder, tmp_path):
    from spry.core.errors import DataError

    brief = {"role": "system", "content": "Be brief."}
    rows = [{"messages": [brief, {**CHAT[0], "content": str(i)}, CHAT[1]]} for i in range(12)]
    (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, rows)))
    base("llama").save_pretrained(tmp_path / "model")
    tokenizer(None).save_pretrained(tmp_path / "model")
    changed = {"model.name": tmp_path / "model", "data.name": tmp_path / "chats.jsonl", "data.clients": 2}
    with pytest.raises(DataError, match=r"no chat template.*task\.chat_template"):
        list(run(config("llama", "chats.jsonl", "fedavg", **changed), tmp_path / "run"))
