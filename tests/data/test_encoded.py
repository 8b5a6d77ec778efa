from __future__ import annotations

import numpy as np
import pytest
import torch

from spry.data.dataset import Dataset
from spry.data.encoded import encode, needed_length


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


LONG = [" ".join(["good", "bad", "film"] * (1 + number % 9)) for number in range(100)]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("texts", [LONG, list(zip(LONG, reversed(LONG), strict=True))], ids=["one", "pairs"])
def test_what_is_kept_of_a_long_text_is_what_the_tokenizer_keeps(tiny_tokenizer, texts, side):
    tiny_tokenizer.truncation_side = side
    try:
        encoded = encode(make(texts), tiny_tokenizer, max_length=11, pad=0)
        columns = [[pair[k] for pair in texts] for k in (0, 1)] if isinstance(texts[0], tuple) else [texts]
        expected = tiny_tokenizer(*columns, truncation=True, max_length=11, padding=True, return_tensors="pt")
        whole = [len(ids) for ids in tiny_tokenizer(*columns, verbose=False)["input_ids"]]
    finally:
        tiny_tokenizer.truncation_side = "right"
    batch = encoded.batch(range(len(texts)))
    assert all(batch[name].equal(expected[name]) for name in expected)
    assert encoded.whole.tolist() == whole
    assert encoded.cut == sum(length > 11 for length in whole) > 0


def test_without_a_length_it_is_what_all_but_a_twentieth_of_the_texts_need(tiny_tokenizer):
    texts = ["good"] * 40 + ["good " * 18] * 55 + ["good " * 25] * 5
    encoded = encode(make(texts), tiny_tokenizer, most=32, pad=0)
    assert (encoded.max_length, encoded.cut) == (18 + 2, 5)
    given = encode(make(texts), tiny_tokenizer, max_length=20, pad=0)
    assert all(encoded.fields[name].equal(given.fields[name]) for name in given.fields)
    assert encode(make([*texts[40:], "bad " * 25]), tiny_tokenizer, most=32, pad=0).max_length == 25 + 2


@pytest.mark.parametrize(("lengths", "most", "length"), [([3, 4], 512, 8), ([3, 4], 6, 6), ([900] * 9, 512, 512),
                                                         (range(1, 101), None, 95)])  # fmt: skip
def test_the_length_is_bounded_by_the_model_and_is_a_few_tokens_at_least(lengths, most, length):
    assert needed_length(np.asarray(lengths), most) == length
