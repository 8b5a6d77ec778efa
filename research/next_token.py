"""The next-token loss of decoders with LoRA of rank 16 on real or random text, as a loss with residual blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from research.residual_setting import RANK
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from spry.core.keys import Key
from spry.core.params import Params
from spry.data.datasets import load_splits
from spry.estimators.blocks import Blocks
from spry.forward.functional import call
from spry.models.load import Backbone
from spry.models.residual_blocks import find_blocks
from spry.models.sources import find_source

TEXTS, TOKENS = 4, 32


@dataclass(frozen=True, kw_only=True)
class NextToken:
    """The mean cross-entropy of the next token, ``ids`` of shape (B, T)."""

    model: Any
    ids: Tensor
    blocks: Blocks

    def __call__(self, params: Params, *, checkpoint: bool = False) -> Tensor:
        logits = call(self.model, params, input_ids=self.ids).logits
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), self.ids[:, 1:].flatten())

    def microbatches(self) -> Sequence[tuple[float, NextToken]]:
        return [(1.0, self)]


def smollm2(folder: Path, count: int) -> tuple[list[NextToken], Params]:
    """Prepare SmolLM2, 30 pre-norm blocks of Llama, on the first long texts of AG News."""
    source = find_source("smollm2")
    words = AutoTokenizer.from_pretrained(source.path, **source.arguments)
    model = AutoModelForCausalLM.from_pretrained(source.path, dtype=torch.float32, **source.arguments)
    texts = load_splits(str(folder / "ag_news_test.tsv.gz"), text=("text",), label="label").train.texts
    rows = [words(text)["input_ids"] for text in texts[: 8 * count * TEXTS]]
    long = [row[:TOKENS] for row in rows if len(row) >= TOKENS]
    return _adapted(model, words, torch.tensor(long[: count * TEXTS]), ["q_proj", "v_proj"])


def neox(count: int) -> tuple[list[NextToken], Params]:
    """Prepare 12 parallel blocks of a random GPT-NeoX, on random tokens."""
    config = AutoConfig.for_model(
        "gpt_neox", hidden_size=128, num_hidden_layers=12, num_attention_heads=4, intermediate_size=512,
        vocab_size=512, max_position_embeddings=64,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    ids = torch.tensor(Key(0).generator("ids").integers(512, size=(count * TEXTS, TOKENS)))
    source = find_source("smollm2")  # any words do
    words = AutoTokenizer.from_pretrained(source.path, **source.arguments)
    return _adapted(model, words, ids, ["query_key_value"])


def _adapted(model: Any, words: Any, ids: Tensor, targets: list[str]) -> tuple[list[NextToken], Params]:
    model.config.use_cache = False
    lora = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets)
    adapted = get_peft_model(model, lora).eval().requires_grad_(False)
    backbone = Backbone(name="decoder", model=model, tokenizer=words, newly_initialized=())
    blocks = find_blocks(backbone, adapted)
    weights = {n: w.detach().clone() for n, w in adapted.named_parameters() if "lora_" in n}
    return [NextToken(model=adapted, ids=part, blocks=blocks) for part in ids.split(TEXTS)], weights
