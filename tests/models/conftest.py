"""Tiny random classifiers of many architectures, built from configurations."""

from __future__ import annotations

import pytest
import torch

from spry.core.keys import Key
from spry.models.load import Backbone
from spry.tasks.classification import ClassificationTask

_WIDE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
_LLAMA = _WIDE | {"num_key_value_heads": 1, "head_dim": 8}

ARCHITECTURES: dict[str, dict] = {
    "bert": _WIDE,
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
    "roberta": _WIDE,
    "albert": _WIDE | {"embedding_size": 8},
    "electra": _WIDE | {"embedding_size": 8},
    "deberta-v2": _WIDE
    | {"pooler_hidden_size": 16, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2},
    "gpt_neox": _WIDE,
    "opt": _WIDE | {"ffn_dim": 24, "word_embed_proj_dim": 16},
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "gemma": _LLAMA,
    "phi": _WIDE,
}
"""Settings that make each architecture tiny, by model type."""


def make(kind: str, labels: int = 3, **changed: int) -> torch.nn.Module:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    sizes = ARCHITECTURES[kind] | {"vocab_size": 32, "max_position_embeddings": 40, "pad_token_id": 0}
    config = AutoConfig.for_model(
        kind, **{**sizes, **changed}, bos_token_id=2, eos_token_id=3, num_labels=labels
    )
    config.initializer_range = 0.2
    config.use_cache = False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForSequenceClassification.from_config(config).eval()


@pytest.fixture(params=ARCHITECTURES)
def kind(request) -> str:
    return request.param


@pytest.fixture
def backbone(kind, tiny_tokenizer) -> Backbone:
    """A frozen tiny classifier with 3 classes, as ``models.load`` gives it."""
    model = make(kind).requires_grad_(False)
    return Backbone(name=kind, model=model, tokenizer=tiny_tokenizer, newly_initialized=())


@pytest.fixture
def folder(kind, tmp_path, tiny_tokenizer):
    """A folder with the pretrained part of a tiny model, without a head, and a tokenizer."""
    model = make(kind)
    getattr(model, model.base_model_prefix).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def task(tiny_model, reviews) -> ClassificationTask:
    return ClassificationTask(str(tiny_model), labels=reviews.label_names, key=Key(3), dtype=torch.float64)


@pytest.fixture
def batch(task, reviews):
    return task.encode(reviews, max_length=16).batch(range(len(reviews)))


@pytest.fixture
def weights(task):
    """Trainable weights away from the start, where LoRA's B is zero and half of all slopes vanish."""
    return {
        name: value + 0.3 * Key(5).normal(name, tuple(value.shape), like=value)
        for name, value in task.init().items()
    }
