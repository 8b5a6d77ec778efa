"""Free answers: what a model goes on to say after a prompt, its likeliest token at each step."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from spry.core.params import Params
from spry.data.encoded import NOT_LEARNT, Batch
from spry.data.language_rows import LanguageRows
from spry.tasks.causal_lm.metrics import Sample
from spry.tasks.model_call import ModelCall

SHOWN = 500
"""Characters of a prompt that a sample keeps, the last ones."""


def samples(call: ModelCall, batch: Batch, data: LanguageRows, most: int) -> tuple[Sample, ...]:
    """Let the model answer each row's last prompt freely, and set its answer beside the expected one."""
    rows = zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True)
    pairs = [_parted(ids[mask > 0], labels[mask > 0]) for ids, labels, mask in rows]
    answers = free_answers(call, [prompt for prompt, _ in pairs], data, most)

    read = data.tokenizer.decode
    return tuple(
        Sample(
            prompt=read(prompt).strip()[-SHOWN:],
            expected=read(expected, skip_special_tokens=True).strip(),
            answer=answer,
        )
        for (prompt, expected), answer in zip(pairs, answers, strict=True)
    )


def _parted(ids: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The tokens up to the last answer, and those of the answer."""
    learnt = labels != NOT_LEARNT
    last = int(learnt.nonzero()[-1]) + 1
    before = (~learnt[:last]).nonzero()
    start = int(before[-1]) + 1 if len(before) else 0
    return ids[:start], ids[start:last]


def free_answers(call: ModelCall, prompts: Sequence[Tensor], data: LanguageRows, most: int) -> list[str]:
    """Go on after prompts of any lengths, shape (T,) each, until a mark ends the answer, or for ``most`` tokens."""
    from transformers import GenerationConfig

    longest = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), longest), data.pad, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):  # on the left, so that answers begin at one place
        ids[row, longest - len(prompt) :] = prompt
        mask[row, longest - len(prompt) :] = 1
    config = GenerationConfig(
        max_new_tokens=most, do_sample=False, use_cache=True, pad_token_id=data.pad, eos_token_id=_ends(data)
    )
    with holding(call.module, call.params), torch.no_grad():
        found = call.module.generate(
            input_ids=ids.to(call.device), attention_mask=mask.to(call.device), generation_config=config
        )
    said = data.tokenizer.batch_decode(found[:, longest:], skip_special_tokens=True)
    return [text.strip() for text in said]


def _ends(data: LanguageRows) -> list[int]:
    """Tokens that end an answer: the end token, and the mark that a chat template ends answers with."""
    words = data.tokenizer
    ends = {words.eos_token_id, data.end_of_answer} - {None}
    return sorted(ends)


@contextmanager
def holding(module: nn.Module, params: Params) -> Generator[None]:
    """Let a module have other weights while the context is open; nothing is copied, and nobody else may use it."""
    own = {name: module.get_parameter(name) for name in params}
    before: dict[str, Any] = {name: weight.data for name, weight in own.items()}
    try:
        for name, weight in own.items():
            weight.data = params[name].detach().to(weight.dtype)
        yield
    finally:
        for name, weight in own.items():
            weight.data = before[name]
