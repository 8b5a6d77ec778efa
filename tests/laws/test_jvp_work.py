"""The law of work: a pass does the matrix products of inference once for the value and once for each direction."""

from __future__ import annotations

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode

from spry.forward import call, jvp
from tests.forward.reference import SIZES, drawn, use_sizes

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


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("targets", ["attention", "all-linear"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("batch", [1, 3])
def test_nothing_is_computed_twice(monkeypatch, name, targets, size, batch):
    use_sizes(monkeypatch, size)
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
    inputs = {
        "input_ids": torch.arange(batch * 24).view(batch, 24) % 30 + 1,
        "labels": torch.zeros(batch, dtype=torch.long),
    }
    params = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    directions = [{n: drawn(*p.shape, dtype=p.dtype) for n, p in params.items()}]

    def loss(p):
        return call(model, p, **inputs).loss

    inference = products(torch.no_grad()(lambda: loss(params)))
    assert products(lambda: jvp(loss, params, directions)) <= 2.15 * inference
