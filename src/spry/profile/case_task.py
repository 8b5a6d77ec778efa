"""What a case learns: its model's class, and batches of random words as its task encodes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

import numpy as np
from torch import nn

from spry.core.keys import Key
from spry.data.encoded import Batch
from spry.models.model_class import CLASSIFIER, ModelClass
from spry.profile.case import Case, HeadKind
from spry.profile.random_model import USUAL_OUTPUTS
from spry.profile.task_check import PROBED_CLASSES, usual_outputs
from spry.tasks.causal_lm.kind import LANGUAGE_MODEL
from spry.tasks.kind import TaskKind
from spry.tasks.kinds import make_task

HEADS: Mapping[HeadKind, ModelClass] = {"classification": CLASSIFIER, "causal-lm": LANGUAGE_MODEL}

_KEY = Key(0).fold("task batch")


def task_kind_of(case: Case) -> TaskKind | None:
    """The task whose loss is taken, with its usual options; None leaves the loss to the model."""
    return None if case.task is None else make_task(case.task)


def model_class_of(case: Case) -> ModelClass:
    kind = task_kind_of(case)
    return HEADS[case.head] if kind is None else kind.model_class


def outputs_of(case: Case) -> int:
    """How many outputs the head has, where they are counted."""
    kind = task_kind_of(case)
    return USUAL_OUTPUTS if kind is None else len(usual_outputs(kind, _KEY))


def task_batch(kind: TaskKind, model: nn.Module, batch: int, length: int, key: Key = _KEY) -> Batch:
    """Draw B = ``batch`` examples with random labels, encoded as the task encodes them, on the model's device.

    The model's own tokenizer, which a shape lacks, is not needed.

    Returns:
        ``input_ids`` and ``attention_mask``, shape (B, S) for texts of S = ``length`` tokens, or (B, C, S) where an
        example has C options; and what else the task's loss reads.
    """
    config, device = cast(Any, model).config, next(model.parameters()).device
    end = config.eos_token_id if config.is_encoder_decoder else None
    drawn = _drawn(kind, config.vocab_size, end, batch, length, key)
    return {name: value.to(device) for name, value in drawn.items()}


@cache
def texts_per_example(kind: TaskKind) -> int:
    """How many texts the model reads for one example of a drawn batch: one, or one an option."""
    return math.prod(_drawn(kind, 16, None, 2, 8, _KEY)["input_ids"].shape[1:-1])


def _drawn(kind: TaskKind, vocabulary: int, end: int | None, batch: int, length: int, key: Key) -> Batch:
    draw = key.generator("words")
    words = draw.integers(min(10, vocabulary // 2), vocabulary, (batch, length))
    texts = [" ".join(f"w{number}" for number in row) for row in words]
    dataset = kind.probe(texts, PROBED_CLASSES, draw)
    encoded = kind.encode(dataset, _tokenizer(vocabulary, end), max_length=length, most=length, pad=0)
    fullest = np.argsort(
        -encoded.lengths, kind="stable"
    )  # what does not fit into a row begins another, shorter one
    return encoded.batch(np.sort(fullest[:batch]).tolist())


def _tokenizer(vocabulary: int, end: int | None) -> Any:
    """One token for each numbered word; an encoder-decoder's ``end`` stands behind each text, where its head reads."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {f"w{number}": number for number in range(vocabulary)}
    marks = {0: "[PAD]", 1 if end is None else end: "[END]"}
    words = {word: number for word, number in words.items() if number not in marks}
    made = Tokenizer(models.WordLevel(words | {mark: at for at, mark in marks.items()}, unk_token="[PAD]"))
    made.pre_tokenizer = cast(Any, pre_tokenizers.WhitespaceSplit())
    if end is not None:
        ending = {"single": "$A [END]", "pair": "$A $B [END]", "special_tokens": [("[END]", end)]}
        made.post_processor = cast(Any, processors.TemplateProcessing(**ending))
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        eos_token="[END]",
        model_input_names=["input_ids", "attention_mask"],
    )
