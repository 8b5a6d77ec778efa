"""Tiny language models with LoRA away from its start, in float64, and what they learn from."""

from __future__ import annotations

import functools
from typing import Any

import torch

from spry.core.keys import Key
from spry.data.conversations import exchange
from spry.data.dataset import Dataset
from spry.models.adapters import Lora
from spry.tasks.causal_lm.kind import CausalLM
from spry.tasks.model_task import ModelTask
from tests.language import tokenizer

SIZES = {
    "llama": {
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 24,
    },
    "gpt2": {"n_embd": 16, "n_layer": 3, "n_head": 2},
}
KINDS = tuple(SIZES)
ASKING = CausalLM(prompts="question", answers="reply", new_tokens=5)
PAIRS = [("Which topic?", "Sports"), ("Hi", "there you"), ("a", "World Business one"), ("b", "c")]


def base(kind: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    none = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    config = AutoConfig.for_model(
        kind,
        **SIZES[kind],
        **none,
        vocab_size=len(tokenizer()),
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config)


def make_task(kind: str, what: CausalLM = ASKING, **options: Any) -> ModelTask:
    settings: dict[str, Any] = {
        "labels": (),
        "tokenizer": tokenizer(),
        "adapter": Lora(rank=2, alpha=4),
        "key": Key(1),
        "dtype": torch.float64,
        "exact": "last_block",
    }
    return ModelTask(base(kind), what, **{**settings, **options})


@functools.cache
def task(kind: str) -> ModelTask:
    return make_task(kind)


def dataset(what: CausalLM = ASKING) -> Dataset:
    texts = [exchange(*pair) for pair in PAIRS]
    return Dataset(name="pairs", texts=texts, labels=[0] * len(texts), target=what.target)


def documents(texts: list[str]) -> Dataset:
    return Dataset(name="documents", texts=texts, labels=[0] * len(texts), target=CausalLM().target)


def moved(found: ModelTask) -> dict[str, torch.Tensor]:
    return {n: w + 0.3 * Key(2).normal(n, tuple(w.shape), like=w) for n, w in found.init().items()}
