"""Models that need something before they can be used as all others are."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForQuestionAnswering

from spry.core.errors import ModelError
from spry.models.settle import settle

SMALL = {
    "vocab_size": 32,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "head_dim": 8,
    "pad_token_id": 0,
    "num_local_experts": 4,
}
LLAMA4 = {"no_rope_layers": [1], "intermediate_size_mlp": 24, "attention_chunk_size": 8}


def test_llama_4_knows_its_pretrained_part():
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama4_text", **SMALL, **LLAMA4))
    assert not hasattr(model, model.base_model_prefix)  # else there is nothing to settle any more
    settle(model)
    assert model.base_model_prefix == "model" and model.base_model is model.model


def test_experts_are_computed_in_double_precision_too():
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("mixtral", **SMALL)).eval()
    ids = torch.arange(6)[None] + 3
    with torch.no_grad():
        settle(model)
        assert model.config._experts_implementation != "eager"  # single precision stays as it is
        single = model(input_ids=ids).logits
        settle(model.double())
        assert torch.allclose(model(input_ids=ids).logits, single.double(), atol=1e-5)


def test_a_model_whose_head_cannot_be_told_from_its_halves_is_refused():
    sizes = {"vocab_size": 32, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
    model = AutoModelForQuestionAnswering.from_config(AutoConfig.for_model("t5", **sizes))
    with pytest.raises(
        ModelError, match=r"T5ForQuestionAnswering.*several modules \(encoder, decoder\).*Choose"
    ):
        settle(model)
