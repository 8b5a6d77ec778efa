"""The two halves of causal language models of many kinds, against the models' own logits and losses."""

import copy
import functools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spry.core.errors import ModelError
from spry.forward import jvp, tiled_loss
from spry.forward.functional import call
from spry.forward.tiled_loss import tiled_cross_entropy
from spry.models.language_head import find_language_head

VOCABULARY = 37
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
GROUPED = {**SIZES, "intermediate_size": 24, "num_key_value_heads": 1}
KINDS = {
    "llama": GROUPED,
    "qwen3": {**GROUPED, "head_dim": 8},
    "gemma2": {**GROUPED, "head_dim": 8, "final_logit_softcapping": 3.0, "sliding_window": 8},
    "phi3": GROUPED,
    "granite": {**GROUPED, "logits_scaling": 4.0},
    "cohere": {**GROUPED, "logit_scale": 0.3},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2},
    "gpt_neox": {**SIZES, "intermediate_size": 24},
    "opt": {**SIZES, "ffn_dim": 24, "word_embed_proj_dim": 8},
    "bloom": {"hidden_size": 16, "n_layer": 2, "n_head": 2},
    "falcon": SIZES,
}


@functools.cache
def model(kind):
    from transformers import AutoConfig, AutoModelForCausalLM

    none = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    config = AutoConfig.for_model(
        kind, **KINDS[kind], **none, vocab_size=VOCABULARY, max_position_embeddings=32, use_cache=False
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = AutoModelForCausalLM.from_config(config).double()
    return found.eval().requires_grad_(False)


def tokens():
    ids = torch.arange(27).view(3, 9) * 7 % VOCABULARY
    labels = ids.clone()
    labels[0, :4], labels[2, 7:] = -100, -100
    return ids, labels


def losses(module, head):
    """Two means over labelled tokens: by tiles, and of all logits."""
    ids, labels = tokens()
    at = (labels[:, 1:] != -100).nonzero(as_tuple=True)

    def tiled(params):
        rows = head.hidden(params, input_ids=ids)[at]
        total = tiled_cross_entropy(
            lambda r: head.logits(params, r),
            rows,
            labels[:, 1:][at],
            list(params.values()),
            vocabulary=VOCABULARY,
        )
        return total / len(at[0])

    def whole(params):
        logits = call(module, params, input_ids=ids).logits[:, :-1]
        return F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())

    return tiled, whole


def check(module, params):
    head = find_language_head(module, tokens()[0], "it")
    tiled, whole = losses(module, head)
    leaves = {name: w.detach().clone().requires_grad_() for name, w in params.items()}
    value, expected = tiled(leaves), whole(leaves)
    torch.testing.assert_close(value, expected)
    ends = list(leaves.values())
    found = torch.autograd.grad(value, ends, allow_unused=True)
    gradient = torch.autograd.grad(expected, ends, allow_unused=True)
    for one, other in zip(found, gradient, strict=True):
        if other is not None and float(other.abs().max()) > 0:
            torch.testing.assert_close(one, other)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        direction = {name: torch.randn_like(w) for name, w in params.items()}
    slope = jvp(tiled, params, [direction])[1][0]
    moved = zip(gradient, direction.values(), strict=True)
    torch.testing.assert_close(slope, sum((g * v).sum() for g, v in moved if g is not None))


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(tiled_loss, "FEWEST_ROWS", 4)
    monkeypatch.setattr(tiled_loss, "WORKSPACE", {"cpu": 1, "cuda": 1})


@pytest.mark.parametrize("kind", KINDS)
def test_loss_gradient_and_slope_are_the_models_own(kind):
    module = model(kind)
    check(module, dict(module.named_parameters()))


@pytest.mark.parametrize(
    "head", [{"target_modules": ["query_key_value", "lm_head"]}, {"modules_to_save": ["lm_head"]}]
)
def test_a_head_with_weights_of_its_own(head):
    from peft import LoraConfig, get_peft_model

    base = copy.deepcopy(model("gpt_neox"))  # its head is no copy of the embedding
    config = {"target_modules": ["query_key_value"], **head}
    module: Any = get_peft_model(base, LoraConfig(r=2, init_lora_weights=False, **config)).double().eval()
    params = {name: w.detach() for name, w in module.named_parameters() if w.requires_grad}
    assert any("lm_head" in name for name in params)
    check(module.requires_grad_(False), params)


def test_the_module_is_unchanged_after_a_pass():
    module = model("llama")
    ids, _ = tokens()
    before = module(input_ids=ids).logits
    head = find_language_head(module, ids, "it")
    head.logits({}, head.hidden({}, input_ids=ids)[0])
    assert "forward" not in vars(head.trunk) and not head.trunk._forward_hooks
    assert torch.equal(module(input_ids=ids).logits, before)


def test_a_head_that_mixes_positions_is_refused():
    class Mixing(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.head = nn.Embedding(VOCABULARY, 4), nn.Linear(4, VOCABULARY)

        def forward(self, input_ids):
            from transformers.modeling_outputs import CausalLMOutput

            hidden = self.trunk(input_ids)
            return CausalLMOutput(logits=self.head(hidden.cumsum(1)))

    with pytest.raises(ModelError, match="the logits of a position are others there"):
        find_language_head(Mixing(), tokens()[0], "it")


def test_an_encoder_is_refused():
    from transformers import BertConfig, BertLMHeadModel

    config = BertConfig(**SIZES, intermediate_size=24, vocab_size=VOCABULARY)
    with pytest.raises(ModelError, match="reads texts in both directions"):
        find_language_head(BertLMHeadModel(config).eval(), tokens()[0], "it")


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1)])
def test_short_texts_will_do(shape):
    ids = torch.zeros(shape, dtype=torch.int64)
    assert find_language_head(model("llama"), ids, "it").vocabulary == VOCABULARY
