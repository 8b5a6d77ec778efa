"""Mixtures of experts as users load them, with PyTorch's grouped product: slopes against autograd."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from spry.core.keys import Key
from spry.core.params import dot
from spry.forward import call, jvp

COMMON = {
    "vocab_size": 31, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
    "intermediate_size": 24, "moe_intermediate_size": 24, "max_position_embeddings": 32, "pad_token_id": 0,
}  # fmt: skip
FAMILIES = {
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {"num_experts": 4, "num_experts_per_tok": 2, "shared_expert_intermediate_size": 24},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "head_dim": 8},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "granitemoe": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "phimoe": {"num_local_experts": 4, "num_experts_per_tok": 2},
}


@pytest.mark.parametrize("kind", FAMILIES)
def test_slopes_are_those_of_autograd(kind):
    config = AutoConfig.for_model(kind, **{**COMMON, **FAMILIES[kind]})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        base = AutoModelForCausalLM.from_config(config)
        lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        model = get_peft_model(base, lora).eval().requires_grad_(False)
    ids = torch.arange(1, 15).view(2, 7)
    weights = {n: w.detach() for n, w in model.named_parameters() if "lora_" in n}
    v = {n: Key(1).normal(n, tuple(w.shape), like=w) for n, w in weights.items()}

    def loss(params):
        return call(model, params, input_ids=ids, labels=ids).loss

    leaves = {n: w.detach().clone().requires_grad_() for n, w in weights.items()}
    wanted = dict(zip(leaves, torch.autograd.grad(loss(leaves), list(leaves.values())), strict=True))
    _, slopes = jvp(loss, weights, [v])
    assert slopes.tolist() == pytest.approx(
        [dot(wanted, v)], rel=1e-3
    )  # grouped products exist in float32 and below
