"""The memory law, with a generous bound: a pass takes no more than inference does, at any depth, and no logits."""

from __future__ import annotations

import gc

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, BertConfig, LlamaConfig

from spry.forward import call, jvp
from spry.measure.meter import tensor_peak
from tests.forward.reference import drawn, scale_down

WIDTH, HEADS, BATCH, LENGTH = 64, 4, 8, 64
HIDDEN = BATCH * LENGTH * WIDTH * 4
"""Bytes of one hidden state."""


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    scale_down(monkeypatch, HIDDEN)


def peaks(kind, layers=3, words=50):
    """Peak bytes of stock inference and of a pass with one direction, both above the model."""
    common = {
        "vocab_size": words,
        "hidden_size": WIDTH,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
    }
    if kind == "bert":
        config = BertConfig(**common, intermediate_size=4 * WIDTH, max_position_embeddings=LENGTH)
    else:
        config = LlamaConfig(
            **common, intermediate_size=3 * WIDTH, num_key_value_heads=2, pad_token_id=0, use_cache=False
        )
    auto = AutoModelForCausalLM if kind == "llama lm" else AutoModelForSequenceClassification
    targets = ["query", "value"] if kind == "bert" else ["q_proj", "v_proj"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = get_peft_model(auto.from_config(config), LoraConfig(r=1, target_modules=targets)).eval()
    tokens = torch.arange(BATCH * LENGTH).view(BATCH, LENGTH) % 40 + 1
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    inputs["labels"] = tokens if kind == "llama lm" else torch.arange(BATCH) % 2
    params = {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}
    directions = [{name: drawn(*value.shape, dtype=value.dtype) for name, value in params.items()}]

    def loss(p):
        return call(model, p, **inputs).loss

    steps = (torch.no_grad()(lambda: loss(params)), lambda: jvp(loss, params, directions))
    found = []
    for step in steps:
        step()
        gc.collect()
        found.append(tensor_peak(step))
    return found


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_no_more_than_inference(kind):
    inference, ours = peaks(kind)
    assert ours <= 1.1 * inference


def test_no_more_in_a_deeper_model():
    shallow, deep = peaks("bert", layers=4)[1], peaks("bert", layers=12)[1]
    assert deep <= 1.05 * shallow


def test_logits_of_many_words_never_exist():
    few, many = peaks("llama lm", words=50)[1], peaks("llama lm", words=1000)[1]
    assert many - few < 0.2 * 1000 * BATCH * LENGTH * 4
