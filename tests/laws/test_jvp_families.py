"""The law of the engine, slope = ``<grad, v>``, where families do what others do not: experts in one product,
complex rotations and transforms, writing into fresh tensors, a custom autograd function; loaded as users load them."""

from __future__ import annotations

import pytest
import torch
from benchmarks.architecture_sizes import configuration
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from spry.core.params import dot
from spry.forward import call, jvp, track_fallbacks
from tests.forward.reference import drawn, use_chunks

EXPERTS = (  # PyTorch's grouped product takes no float64
    "mixtral",
    "qwen2_moe",
    "qwen3_moe",
    "olmoe",
    "gpt_oss",
    "phimoe",
    "granitemoe",
    "jamba",
    "minimax",
    "glm4_moe",
    "qwen3_next",
    "deepseek_v2",
    "deepseek_v3",
)
OTHERS = ("falcon", "bloom", "llama4_text", "fnet", "youtu", "rwkv", "xlstm")
LATENT_TARGETS = ["kv_b_proj", "o_proj"]
TARGETS = {
    "falcon": ["query_key_value"],
    "bloom": ["query_key_value", "dense_h_to_4h"],
    "fnet": r".*layer.*dense",  # the pooler is not used
    "rwkv": ["key", "value"],
    "xlstm": ["q", "v"],
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "youtu"), LATENT_TARGETS),
}
# these compute parts in float32 whatever their weights are
SINGLE = {"falcon", "bloom", "llama4_text", "youtu", "rwkv", "xlstm"}


def agrees(module, params, loss, tolerance):
    directions = [
        {n: drawn(*p.shape, seed=i + k, dtype=p.dtype) for i, (n, p) in enumerate(params.items())}
        for k in (7, 90)
    ]
    _, slopes = jvp(lambda p: loss(module, p), params, directions)
    leaves = {n: p.clone().requires_grad_() for n, p in params.items()}
    found = torch.autograd.grad(
        loss(module, leaves), list(leaves.values()), allow_unused=True, materialize_grads=True
    )
    gradient = dict(zip(leaves, found, strict=True))
    assert all(g.norm() > 0 for g in found)
    size = sum(float(g.norm() * directions[0][n].norm()) for n, g in gradient.items())
    wanted = [float(dot(gradient, v)) for v in directions]
    assert slopes.tolist() == pytest.approx(wanted, rel=0, abs=tolerance * size)


def adapted(kind, dtype):
    auto = AutoModelForMaskedLM if kind == "fnet" else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = auto.from_config(configuration(kind))
        targets = TARGETS.get(kind, ["q_proj", "v_proj"])
        model = get_peft_model(model, LoraConfig(r=2, target_modules=targets, init_lora_weights=False))
    return model.to(dtype).eval().requires_grad_(False)


def next_token_loss(kind):
    ids = torch.arange(1, 15).view(2, 7)
    inputs = {"input_ids": ids, "labels": ids}
    if kind not in {"fnet", "bloom"}:  # FNet mixes all positions; Bloom's padded rows are NaN in float64
        inputs["attention_mask"] = torch.ones_like(ids)
        inputs["attention_mask"][0, :2] = 0
    return lambda module, params: call(module, params, **inputs).loss


@pytest.mark.parametrize("size", ["at once", "by rows"])
@pytest.mark.parametrize("kind", EXPERTS)
def test_experts(monkeypatch, kind, size):
    use_chunks(monkeypatch, size)
    model = adapted(kind, torch.float32)
    params = {n: p.detach() for n, p in model.named_parameters() if "lora_" in n}
    agrees(model, params, next_token_loss(kind), 1e-5)


@pytest.mark.parametrize("kind", ["mixtral", "deepseek_v3"])
def test_the_experts_own_weights(kind):
    model = adapted(kind, torch.float32)
    params = {n: p.detach() for n, p in model.named_parameters() if "experts" in n and "shared" not in n}
    assert params
    agrees(model, params, next_token_loss(kind), 1e-5)


@pytest.mark.parametrize("size", ["at once", "by rows"])
@pytest.mark.parametrize("kind", OTHERS)
def test_other_families(monkeypatch, kind, size):
    use_chunks(monkeypatch, size)
    model = adapted(kind, torch.float64)
    params = {n: p.detach() for n, p in model.named_parameters() if "lora_" in n}
    agrees(model, params, next_token_loss(kind), 1e-6 if kind in SINGLE else 1e-13)


@pytest.mark.parametrize("mask", [None, torch.tensor([[False] * 5, [False] * 3 + [True] * 2])])
@pytest.mark.parametrize("norm_first", [False, True])
def test_transformer_of_torch(norm_first, mask):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=norm_first)
    layer = layer.double().eval().requires_grad_(False)
    params = {n: p.detach() for n, p in layer.named_parameters() if "bias" not in n}
    x = drawn(2, 5, 8)

    def loss(module, params):
        return call(module, params, x, src_key_padding_mask=mask).pow(3).sum()

    with track_fallbacks() as report:
        agrees(layer, params, loss, 1e-13)
    assert not report.fallbacks


@pytest.mark.parametrize("need_weights", [False, True])
def test_multi_head_attention_of_torch(need_weights):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.MultiheadAttention(8, 2, kdim=6, vdim=4).double().eval().requires_grad_(False)
    q, k, v = drawn(3, 2, 8), drawn(5, 2, 6), drawn(5, 2, 4)

    def loss(module, params):
        out, weights = call(module, params, q, k, v, need_weights=need_weights)
        return out.exp().sum() + (weights.square().sum() if need_weights else 0)

    params = {n: p.detach() for n, p in module.named_parameters()}
    params["in_proj_bias"] = params["in_proj_bias"] + drawn(24)
    agrees(module, {n: p for n, p in params.items() if "bias" not in n}, loss, 1e-13)
