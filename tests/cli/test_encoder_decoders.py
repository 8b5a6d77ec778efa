"""T5 and BART as classifiers go through every command; what is split, exact and guessed lies in either half."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from spry.core.keys import Key
from spry.estimators.residual import residual
from spry.experiment.build import build
from spry.experiment.config import load_config

HALVES = {f"{half}_{what}": size for half in ("encoder", "decoder")
          for what, size in (("layers", 3), ("attention_heads", 2), ("ffn_dim", 24))}  # fmt: skip
SIZES = {
    "t5": {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 3, "num_heads": 2},
    "bart": {"d_model": 16, "max_position_embeddings": 48, **HALVES},
}
MARKS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 2}
LAST = {"t5": "decoder.block.2.", "bart": "decoder.layers.2."}
LOWEST = {"t5": "encoder.block.0.", "bart": "encoder.layers.0."}


@pytest.fixture(params=SIZES)
def kind(request) -> str:
    return request.param


@pytest.fixture
def model(kind, tiny_tokenizer, tmp_path) -> Path:
    """A folder with a tiny random encoder-decoder; its tokenizer ends texts with the token that the head reads."""
    config = AutoConfig.for_model(kind, vocab_size=32, **SIZES[kind], **MARKS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(tmp_path / "base")
    words = copy.deepcopy(tiny_tokenizer)
    words.eos_token = "[SEP]"
    words.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def test_it_trains_goes_on_answers_and_is_exported(spry, model, tiny_config, tiny_csv):
    given = ("--set", f"model.name={model}", "--set", "schedule.rounds=1")
    made = spry("run", tiny_config, *given, "--out", "run")
    assert made.code == 0, made.err
    assert spry("resume", "run", "--rounds", "2", "--json").document["rounds"] == 2
    assert spry("export", "run", "merged", "--merge").code == 0
    assert spry("predict", "run", "--data", tiny_csv, "--probabilities", "--out", "said.jsonl").code == 0
    rows = [json.loads(line) for line in Path("said.jsonl").read_text(encoding="utf-8").splitlines()][:8]
    plain = AutoModelForSequenceClassification.from_pretrained("merged").eval()
    words = AutoTokenizer.from_pretrained("merged")
    read = words(
        [row["text"] for row in rows], padding=True, truncation=True, max_length=16, return_tensors="pt"
    )
    with torch.no_grad():
        logits = plain(input_ids=read["input_ids"], attention_mask=read["attention_mask"]).logits
    names = list(plain.config.id2label.values())
    for row, shares in zip(rows, logits.softmax(1).tolist(), strict=True):
        assert [row[f"probability_{name}"] for name in names] == pytest.approx(shares, abs=1e-4)


def test_both_halves_are_split_and_the_last_block_of_the_decoder_is_exact(kind, model, tiny_config):
    settings = {"model.name": str(model), "method.name": "spry", "peft.exact": "last_block"}
    units = build(load_config(tiny_config, settings)).algorithm.units
    split = [unit.name for unit in units if not unit.exact]
    assert {half for half in ("encoder.", "decoder.") for name in split if half in name} == {
        "encoder.",
        "decoder.",
    }
    assert {unit.name for unit in units if unit.exact} == {"last_block"}, (
        "the head starts in closed form and stays"
    )
    (block,) = [unit for unit in units if unit.name == "last_block"]
    assert all(LAST[kind] in name for name in block.names)


def test_the_residual_guess_goes_through_the_encoder_and_all_above_it_is_exact(kind, model, tiny_config):
    made = build(load_config(tiny_config, {"model.name": str(model), "model.dtype": "float64"}))
    params = {name: w + 0.1 * Key(1).normal(name, tuple(w.shape), w) for name, w in made.task.init().items()}
    loss = made.task.loss(made.task.probe(Key(2), examples=3, tokens=6), Key(0))
    leaves = {name: weight.clone().requires_grad_() for name, weight in params.items()}
    exact = dict(zip(leaves, torch.autograd.grad(loss(leaves), list(leaves.values())), strict=True))
    for name, gradient in residual("identity")(loss, params, Key(0)).gradient.items():
        off = float((gradient - exact[name]).norm() / exact[name].norm())
        assert off > 1e-3 if LOWEST[kind] in name else off < 1e-6, (name, off)
    for name, gradient in residual("full")(loss, params, Key(0)).gradient.items():
        torch.testing.assert_close(gradient, exact[name], rtol=1e-6, atol=1e-10)
