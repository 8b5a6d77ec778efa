"""Weights that stay on the disk, through the commands: the same run, the same answers."""

from __future__ import annotations

import sys

import pytest
import torch
from safetensors.torch import load_file
from tests.language import tokenizer
from tests.tasks.causal_lm.setting import base

from spry.experiment.checkpoint import CHECKPOINT_FILE
from spry.inference import loading

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's map of a process")


def test_a_language_model_trains_and_answers_from_the_disk(spry, tmp_path, monkeypatch):
    monkeypatch.setattr("spry.models.offload.LARGEST_LOOSE", 0.2)  # norms are much of so small a model
    base("llama").save_pretrained(tmp_path / "llama")
    tokenizer().save_pretrained(tmp_path / "llama")
    rows = [f'{{"text": "Which topic? number {n}", "reply": "World {n % 4}"}}\n' for n in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(rows))
    (tmp_path / "asked.jsonl").write_text("".join(row.partition(', "reply"')[0] + "}\n" for row in rows[:6]))
    given = [
        "task.name=causal-lm", "task.prompts=text", "task.answers=reply", "task.new_tokens=3", "model.name=llama",
        "data.name=rows.jsonl", "data.clients=4", "peft.rank=2", "schedule.rounds=2", "schedule.clients_per_round=2",
        "client.steps=1", "client.batch_size=4",
    ]  # fmt: skip
    said = [part for one in given for part in ("--set", one)]
    for place, more in {"near": [], "far": ["--set", "model.offload=disk"]}.items():
        done = spry("run", *said, *more, "--out", place)
        assert done.code == 0, done.err
    near, far = (load_file(tmp_path / place / CHECKPOINT_FILE) for place in ("near", "far"))
    assert near.keys() == far.keys() and all(torch.equal(near[name], far[name]) for name in near)
    answers, streamed = [], []
    stream = loading.stream_from_disk
    monkeypatch.setattr(loading, "stream_from_disk", lambda *given: streamed.append(stream(*given)))
    for offload in ([], ["--offload", "disk"]):
        found = spry("predict", "far", "--data", "asked.jsonl", *offload)
        assert found.code == 0, found.err
        told = spry("evaluate", "far", "--json", *offload).document
        answers.append((found.out, told["perplexity"]))
    assert answers[0] == answers[1]
    assert len(streamed) == 2 and all(one.read_bytes > 0 for one in streamed)
    refused = spry("predict", "far", "--data", "asked.jsonl", "--offload", "cloud")
    assert refused.code != 0 and "--offload is 'cloud'. Allowed: disk." in refused.err
