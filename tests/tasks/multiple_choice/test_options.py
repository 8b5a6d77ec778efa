"""Batches of questions with their options: each option is what the tokenizer makes of its pair."""

from __future__ import annotations

import pytest
import torch

from spry.data.dataset import Dataset
from spry.tasks.multiple_choice.options import encode_options
from spry.tasks.multiple_choice.target import CHOICES

TEXTS = [
    (("a good film", "was bad"), ("a good film", "was very very good")),
    (("bad", "plot"), ("bad", "actor"), ("bad", "the plot and the actor")),
]


@pytest.fixture
def encoded(tiny_tokenizer):
    made = Dataset(name="made", texts=TEXTS, labels=[1, 2], target=CHOICES)
    return encode_options(made, tiny_tokenizer, max_length=9, most=32, pad=tiny_tokenizer.pad_token_id)


def test_each_option_is_its_pair(encoded, tiny_tokenizer):
    batch = encoded.batch([1, 0])
    assert batch["input_ids"].shape[:2] == (2, 3)
    for row, texts in enumerate((TEXTS[1], TEXTS[0])):
        for option, pair in enumerate(texts):
            ids = tiny_tokenizer(*pair, truncation=True, max_length=9)["input_ids"]
            assert batch["input_ids"][row, option][batch["attention_mask"][row, option] == 1].tolist() == ids
    assert (batch["labels"].tolist(), batch["options"].tolist()) == ([2, 1], [3, 2])


def test_missing_options_repeat_the_first(encoded):
    batch = encoded.batch([0, 1])
    assert batch["input_ids"][0, 2].equal(batch["input_ids"][0, 0])
    assert encoded.batch([0])["input_ids"].shape[1] == 2


def test_what_is_cut_is_counted_by_question(encoded):
    assert (len(encoded), encoded.cut, encoded.max_length) == (2, 1, 9)
    assert encoded.lengths.sum() == encoded.each.lengths.sum()
    assert encoded.batch([])["labels"].dtype == torch.int64
