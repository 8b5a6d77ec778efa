"""Tiny random causal language models in float64 with LoRA, and their losses, position by position."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from spry.core.keys import Key
from spry.forward.functional import call

VOCABULARY, WIDTH = 11, 8
SIZES = {
    "gpt2": {"n_embd": WIDTH, "n_layer": 2, "n_head": 2},
    "llama": {
        "hidden_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
        "intermediate_size": 12,
    },
}
TARGETS = {"gpt2": ["c_attn"], "llama": ["q_proj", "v_proj"]}


@functools.cache
def model(kind: str, rank: int = 2) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        kind,
        **SIZES[kind],
        vocab_size=VOCABULARY,
        max_position_embeddings=16,
        initializer_range=0.4,
        bos_token_id=None,
        eos_token_id=None,
        use_cache=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        base = AutoModelForCausalLM.from_config(config).double()
        lora = LoraConfig(
            r=rank,
            lora_alpha=4,
            target_modules=TARGETS[kind],
            init_lora_weights=False,
            fan_in_fan_out=kind == "gpt2",
        )
        return get_peft_model(base, lora).eval().requires_grad_(False)


def weights(kind: str, rank: int = 2, ending: str = "lora_A.default.weight") -> dict[str, Tensor]:
    found = {n: w.detach().double() for n, w in model(kind, rank).named_parameters() if n.endswith(ending)}
    return {n: 0.5 * Key(1).normal(n, tuple(w.shape)).double() for n, w in found.items()}


@dataclass(frozen=True)
class SharedLoss:
    """The mean over an example's predictions of the next token's loss; it tells no positions apart."""

    kind: str
    ids: Tensor
    mask: Tensor
    micro: int | None = None
    rank: int = 2

    def __call__(self, params, *, checkpoint=False):
        return self.examples(params).mean()

    def examples(self, params):
        return self._positions(params).sum(1)

    def microbatches(self):
        size = len(self.ids)
        cuts = [slice(i, min(i + (self.micro or size), size)) for i in range(0, size, self.micro or size)]
        return [
            ((c.stop - c.start) / size, type(self)(self.kind, self.ids[c], self.mask[c], None, self.rank))
            for c in cuts
        ]

    def _positions(self, params):
        found = model(self.kind, self.rank)
        logits = call(found, params, input_ids=self.ids, attention_mask=self.mask).logits
        follows = (self.mask[:, :-1] * self.mask[:, 1:]).bool()
        wanted = F.pad(self.ids[:, 1:].masked_fill(~follows, -100), (0, 1), value=-100)
        losses = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
        return losses.reshape(wanted.shape) / follows.sum(1, keepdim=True).clamp_min(1)


class CausalLmLoss(SharedLoss):
    """The same, telling positions apart."""

    def tokens(self, params):
        return self._positions(params)


def texts(kind: str, lengths: list[int], *, left: bool = False, micro: int | None = None, rank: int = 2):
    """Random tokens, padded to the longest text."""
    total = max(lengths)
    ids = torch.from_numpy(Key(2).generator("ids").integers(VOCABULARY, size=(len(lengths), total)))
    places = torch.arange(total)
    count = torch.tensor(lengths)[:, None]
    mask = (places >= total - count if left else places < count).long()
    return CausalLmLoss(kind, ids, mask, micro, rank)


def gradient(loss, params):
    """The gradient by torch's autograd, which is not ours."""
    leaves = {n: w.clone().requires_grad_() for n, w in params.items()}
    found = torch.autograd.grad(
        loss(leaves), list(leaves.values()), allow_unused=True, materialize_grads=True
    )
    return dict(zip(leaves, found, strict=True))
