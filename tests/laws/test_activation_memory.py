"""The memory law of activation directions: a gradient is formed on the way, no input is stored, at any depth."""

from __future__ import annotations

import gc

import pytest
import torch
from spry.estimators.activation import activation
from transformers import AutoConfig, AutoModel

from spry.core.keys import Key
from spry.estimators.directions import rademacher
from spry.estimators.projected import Measurement
from spry.measure.meter import tensor_peak
from spry.models.adapters.lora import LoraA
from spry.tasks.classification import ClassificationTask
from tests.forward.reference import scale_down

WIDTH, BATCH, LENGTH = 32, 4, 128
HIDDEN = BATCH * LENGTH * WIDTH * 4
"""Bytes of one hidden state; a tap's trace takes 1/LENGTH of it."""


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    scale_down(monkeypatch, HIDDEN)


def peak(kind, folder, tokenizer, layers, tied, rank=1):
    """Peak bytes of one estimate above the model, query and value maps of all layers tapped."""
    config = AutoConfig.for_model(
        kind, vocab_size=32, hidden_size=WIDTH, num_hidden_layers=layers, num_attention_heads=2, pad_token_id=0,
        intermediate_size=2 * WIDTH, max_position_embeddings=LENGTH, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    config.use_cache = False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    task = ClassificationTask(str(folder), labels=2, key=Key(0), method=LoraA(rank=rank))
    words = torch.arange(BATCH * LENGTH).view(BATCH, LENGTH) % 20 + 4
    batch = {"input_ids": words, "attention_mask": torch.ones_like(words), "labels": torch.arange(BATCH) % 2}
    loss, weights = task.loss(batch, Key(0)), task.init()
    head = frozenset(task.units[-1].names)
    assert len(weights) - len(head) == 2 * layers
    estimate = activation(Measurement(directions=rademacher, exact=head), tied=tied)
    estimate(loss, weights, Key(1))
    gc.collect()
    return tensor_peak(lambda: estimate(loss, weights, Key(1)))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_no_more_in_a_deeper_model(kind, tied, tmp_path, tiny_tokenizer):
    shallow, deep = (peak(kind, tmp_path / f"{n}", tiny_tokenizer, n, tied) for n in (4, 12))
    assert deep <= 1.05 * shallow


def test_a_tied_tap_keeps_three_inputs_an_example(tmp_path, tiny_tokenizer):
    rank, extra = 16, 16
    shallow, deep = (
        peak("bert", tmp_path / f"{n}", tiny_tokenizer, n, tied=True, rank=rank) for n in (4, 12)
    )
    weights = 2 * rank * WIDTH  # of the gradient and of the copy that an estimate makes
    assert deep - shallow <= 1.05 * 4 * extra * (BATCH * 3 * (rank + WIDTH) + weights)
