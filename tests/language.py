"""A byte-level tokenizer with a chat template, for tests of language models."""

from __future__ import annotations

import functools
from typing import Any

TEXTS = [
    "the quick brown fox jumps over the lazy dog",
    "Which topic has this headline? Oil prices rise again.",
    "Business Sports World Science user assistant system",
]
TEMPLATE = (
    "{% for message in messages %}<|turn|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{% else %}{{ message['content'] }}<|end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)


@functools.cache
def tokenizer(template: str | None = TEMPLATE, begin: bool = False) -> Any:
    """Bytes with a few merges; ``begin`` adds a begin token, as Llama's tokenizer does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    marks = ["<|end|>", "<|turn|>", "<|begin|>"]
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    words.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=300, special_tokens=marks, initial_alphabet=alphabet)
    )
    if begin:
        words.post_processor = processors.TemplateProcessing(
            single="<|begin|> $A", special_tokens=[("<|begin|>", words.token_to_id("<|begin|>"))]
        )
    found = PreTrainedTokenizerFast(
        tokenizer_object=words,
        eos_token="<|end|>",
        bos_token="<|begin|>",
        additional_special_tokens=["<|turn|>"],
        model_max_length=64,
    )
    found.chat_template = template
    return found
