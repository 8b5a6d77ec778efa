from __future__ import annotations

import pytest
import torch

from spry.data.dataset import Dataset
from spry.data.encoded import encode


def make(texts) -> Dataset:
    labels = [number % 2 for number in range(len(texts))]
    return Dataset(name="made", texts=texts, labels=labels, label_names=("a", "b"))


ONE = ["good", "a very good film", "bad plot", "the actor was not fine and the film was dull"]
PAIRS = [("good", "bad film"), ("a very good film", "fine"), ("the", "a"), ("bad " * 20, "good")]


@pytest.mark.parametrize("texts", [ONE, PAIRS], ids=["one", "pairs"])
@pytest.mark.parametrize("max_length", [5, 8, 32])
def test_a_batch_is_what_the_tokenizer_pads_to(tiny_tokenizer, texts, max_length):
    encoded = encode(make(texts), tiny_tokenizer, max_length=max_length, pad=tiny_tokenizer.pad_token_id)
    pairs = isinstance(texts[0], tuple)
    columns = [[pair[side] for pair in texts] for side in (0, 1)] if pairs else [texts]
    expected = tiny_tokenizer(
        *columns, truncation=True, max_length=max_length, padding=True, return_tensors="pt"
    )
    batch = encoded.batch(range(len(texts)))
    assert batch["labels"].tolist() == [0, 1, 0, 1]
    assert batch.keys() == {*expected.keys(), "labels"}
    for name in expected:
        assert batch[name].equal(expected[name]), name


def test_a_batch_is_only_as_long_as_its_longest_example(tiny_tokenizer):
    encoded = encode(make(ONE), tiny_tokenizer, max_length=32, pad=0)
    assert [encoded.batch([place])["input_ids"].shape[1] for place in range(4)] == encoded.lengths.tolist()
    assert encoded.batch([2, 0])["labels"].tolist() == [0, 0]
    assert encoded.batch([])["input_ids"].shape == (0, 0)


def test_tokens_are_kept_compactly_and_in_the_order_of_the_data(tiny_tokenizer):
    texts = [ONE[number % 4] for number in range(2100)]
    encoded = encode(make(texts), tiny_tokenizer, max_length=32, pad=0)
    tokens = int(encoded.lengths.sum())
    assert len(encoded) == 2100
    assert encoded.fields["input_ids"].dtype == torch.int32
    assert encoded.nbytes <= 5 * tokens + 4 * 2100 + 8 * 2101
    for place in (0, 1023, 1024, 2099):
        ids = tiny_tokenizer(texts[place])["input_ids"]
        assert encoded.batch([place])["input_ids"][0].tolist() == ids
