"""The law of the engine: slope = ``<grad, v>``, for whole transformers models, unmodified, with and without PEFT."""

from __future__ import annotations

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

from spry.core.params import dot
from spry.forward import call, jvp, track_fallbacks
from tests.forward.reference import drawn, use_chunks

COMMON = {
    "vocab_size": 31,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
    "num_labels": 3,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 1,
}
GROUPED = COMMON | {"num_key_value_heads": 2}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32}
OPT = {"ffn_dim": 32, "word_embed_proj_dim": 8}
T5 = {"d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
DISTIL = {"dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 32}

CLASSIFIERS = {
    "Bert": COMMON,
    "DistilBert": COMMON | DISTIL,
    "Roberta": COMMON,
    "Albert": COMMON | {"embedding_size": 8},
    "Electra": COMMON | {"embedding_size": 8},
    "DebertaV2": COMMON,
    "ModernBert": COMMON | {"num_hidden_layers": 3},
    "GPT2": COMMON | GPT2,
    "OPT": COMMON | OPT,
    "Llama": GROUPED,
    "Mistral": GROUPED | {"sliding_window": 3},
    "Qwen2": GROUPED,
    "Qwen3": GROUPED | {"head_dim": 4},
    "Gemma": GROUPED | {"head_dim": 4},
    "Gemma2": GROUPED | {"head_dim": 4, "sliding_window": 3},
    "Gemma3Text": GROUPED | {"head_dim": 4, "sliding_window": 3},
    "Phi3": GROUPED,
}
WRITERS = {
    "GPT2": COMMON | GPT2,
    "OPT": COMMON | OPT,
    "Llama": GROUPED,
    "Mixtral": GROUPED | {"num_local_experts": 3},
}
CASES = [
    *((name, AutoModelForSequenceClassification, options) for name, options in CLASSIFIERS.items()),
    *((name, AutoModelForCausalLM, options) for name, options in WRITERS.items()),
    ("T5", AutoModelForSeq2SeqLM, COMMON | T5),
    ("T5", AutoModelForSequenceClassification, COMMON | T5 | {"feed_forward_proj": "gated-gelu"}),
    ("Bart", AutoModelForSeq2SeqLM, COMMON | {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1}),
]


def built(name, auto, options, peft):
    config = getattr(transformers, f"{name}Config")(**options)
    config.use_cache = False
    if name == "Mixtral":
        config._experts_implementation = "eager"  # the grouped kernel does not take float64
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = auto.from_config(config)
        if peft:
            model = get_peft_model(
                model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
            )
    return model.double().eval()


def batch(auto, side):
    tokens = torch.arange(3 * 6).view(3, 6) * 7 % 26 + 5
    mask = torch.ones(3, 6, dtype=torch.long)
    hidden = slice(4, 6) if side == "right" else slice(0, 2)
    mask[0, hidden] = tokens[0, hidden] = 0
    if auto is AutoModelForSequenceClassification:
        tokens[:, 3] = 1  # T5 classifies at the end-of-sentence token
        return {"input_ids": tokens, "attention_mask": mask, "labels": torch.tensor([0, 1, 2])}
    return {"input_ids": tokens, "attention_mask": mask, "labels": tokens}


@pytest.mark.parametrize("peft", [False, True], ids=["bare", "peft"])
@pytest.mark.parametrize(("side", "size"), [("right", "at once"), ("left", "by rows")])
@pytest.mark.parametrize(
    ("name", "auto", "options"), CASES, ids=[f"{n}-{a.__name__[12:]}" for n, a, _ in CASES]
)
def test_slope_is_the_product_with_the_gradient(monkeypatch, name, auto, options, side, size, peft):
    use_chunks(monkeypatch, size)
    side = (
        "right" if name == "Gemma2" else side
    )  # its eager attention makes NaN of rows that see padding only
    model, inputs = built(name, auto, options, peft), batch(auto, side)
    before = {n: (id(p), p.detach().clone()) for n, p in model.named_parameters()}
    trained = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
    params = {n: p + 0.05 * drawn(*p.shape, seed=i) for i, (n, p) in enumerate(trained.items())}
    directions = [
        {n: drawn(*p.shape, seed=i + k) for i, (n, p) in enumerate(params.items())} for k in (100, 300)
    ]

    def loss(p):
        return call(model, p, **inputs).loss

    with track_fallbacks() as report:
        value, slopes = jvp(loss, params, directions)
    leaves = {n: p.clone().requires_grad_() for n, p in params.items()}
    want = loss(leaves)
    found = torch.autograd.grad(want, list(leaves.values()), allow_unused=True, materialize_grads=True)
    gradient = dict(zip(leaves, found, strict=True))
    # what computes norms, rotations or losses in float32 whatever its weights' type is only that precise
    rounded = value.dtype == torch.float32 or any(
        "RMSNorm" in type(m).__name__ or "Rotary" in type(m).__name__ for m in model.modules()
    )
    rounded = rounded or name in {"DebertaV2", "T5"}
    size = sum(
        g.norm() * v.norm() for g, v in zip(gradient.values(), directions[0].values(), strict=True)
    ).item()
    tolerance = (1e-6 if rounded else 1e-12) * size
    assert value.item() == pytest.approx(want.item(), rel=1e-6 if rounded else 1e-12)
    assert slopes.tolist() == pytest.approx([dot(gradient, v) for v in directions], rel=1e-10, abs=tolerance)
    assert not report.fallbacks or name in {"DebertaV2", "Mixtral"}
    assert all(before[n][0] == id(p) and before[n][1].equal(p) for n, p in model.named_parameters())
