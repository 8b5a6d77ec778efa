"""The law of work: a pass does the matrix products of inference once for the value and once for each direction."""

from __future__ import annotations

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode

from spry.forward import call, jvp
from tests.forward.reference import CHUNKS, drawn, use_chunks

COMMON = {
    "vocab_size": 31,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "pad_token_id": 0,
}
MODELS = {
    "Bert": COMMON | {"intermediate_size": 128},
    "Roberta": COMMON | {"intermediate_size": 128},
    "Albert": COMMON | {"intermediate_size": 128, "embedding_size": 16},
    "GPT2": {"vocab_size": 31, "n_embd": 32, "n_layer": 4, "n_head": 4, "pad_token_id": 0},
    "OPT": COMMON | {"ffn_dim": 128, "word_embed_proj_dim": 32},
    "Llama": COMMON | {"intermediate_size": 96, "num_key_value_heads": 2},
    "Qwen3": COMMON | {"intermediate_size": 96, "num_key_value_heads": 2, "head_dim": 8},
    "Phi3": COMMON | {"intermediate_size": 96, "num_key_value_heads": 2},
}


def products(step):
    """Floating-point operations in products with weights; attention's batched products are left out."""
    with FlopCounterMode(display=False) as counter:
        step()
    return sum(
        n
        for op, n in counter.get_flop_counts()["Global"].items()
        if op in (torch.ops.aten.mm, torch.ops.aten.addmm)
    )


def built(name, targets, batch):
    """A classifier with LoRA, its inputs and its trained weights."""
    config = getattr(transformers, f"{name}Config")(**MODELS[name])
    config.use_cache = False
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    names = [
        n
        for n, m in model.named_modules()
        if n.rpartition(".")[2] in {"query", "value", "q_proj", "v_proj", "c_attn", "qkv_proj"}
    ]
    model = get_peft_model(
        model, LoraConfig(r=1, target_modules="all-linear" if targets == "all-linear" else names)
    ).eval()
    words = torch.arange(batch * 24).view(batch, 24) % 30 + 1
    return model, words, {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}


def law(count):
    """The most that a pass with some directions may take, in passes of inference."""
    return 1 + count + 0.15


@pytest.mark.parametrize("size", CHUNKS)
@pytest.mark.parametrize("targets", ["attention", "all-linear"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("batch", "count"), [(1, 1), (3, 1), (3, 4)])
def test_nothing_is_computed_twice(monkeypatch, name, targets, size, batch, count):
    use_chunks(monkeypatch, size)
    model, words, params = built(name, targets, batch)
    directions = [
        {n: drawn(*p.shape, seed=k, dtype=p.dtype) for n, p in params.items()} for k in range(count)
    ]

    def loss(p):
        return call(model, p, input_ids=words, labels=torch.zeros(batch, dtype=torch.long)).loss

    inference = products(torch.no_grad()(lambda: loss(params)))
    assert products(lambda: jvp(loss, params, directions)) <= law(count) * inference
