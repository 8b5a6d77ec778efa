"""The next-token loss of SmolLM2 with LoRA, position by position, on real text.

Runs at commit 2e7a0ee (with its ``benchmarks`` in the place of ``research``), whose features it measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from spry.core.keys import Key
from spry.core.params import Params
from spry.data import datasets
from spry.forward.functional import call
from spry.models.adapters.adapter import Head
from spry.models.adapters.lora import LoraA
from spry.models.sources import find_source

BATCH, TOKENS = 4, 64


@dataclass(frozen=True)
class NextToken:
    """The mean over an example's positions of the next token's cross-entropy."""

    model: Any
    ids: Tensor

    @property
    def mask(self) -> Tensor:
        """Have no padding."""
        return torch.ones_like(self.ids)

    def __call__(self, params: Params, *, checkpoint: bool = False) -> Tensor:
        """Evaluate."""
        return self.examples(params).mean()

    def examples(self, params: Params) -> Tensor:
        """Evaluate the examples' losses."""
        return self.tokens(params).sum(1)

    def tokens(self, params: Params) -> Tensor:
        """Evaluate the positions' losses."""
        logits = call(self.model, params, input_ids=self.ids).logits
        wanted = F.pad(self.ids[:, 1:], (0, 1), value=-100)
        losses = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
        return losses.reshape(self.ids.shape) / (self.ids.shape[1] - 1)

    def parts(self) -> Sequence[tuple[float, NextToken]]:
        """Stay whole."""
        return [(1.0, self)]


def prepare(data: str) -> tuple[NextToken, dict[str, Tensor]]:
    """Load the model, add adapters, and take the first texts that are long enough."""
    source = find_source("smollm2")
    words = AutoTokenizer.from_pretrained(source.path, **source.arguments)
    base = AutoModelForCausalLM.from_pretrained(source.path, dtype=torch.float32, **source.arguments)
    base.config.use_cache = False
    lora = LoraConfig(r=1, lora_alpha=1, target_modules=["q_proj", "v_proj"])
    model = get_peft_model(base, lora).eval().requires_grad_(False)
    LoraA().start(model, Head(layers=()), Key(0))
    texts = datasets.load_splits(data).train.texts
    ids = (words(text if isinstance(text, str) else text[0])["input_ids"] for text in texts)
    chosen = [row[:TOKENS] for row in islice((r for r in ids if len(r) >= TOKENS), BATCH)]
    weights = {n: w.detach() for n, w in model.named_parameters() if "lora_A" in n}
    return NextToken(model, torch.tensor(chosen)), weights
