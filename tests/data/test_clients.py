from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from spry.core.errors import DataError
from spry.core.keys import Key
from spry.data import clients
from spry.data.encoded import Encoded


def make(count: int) -> Encoded:
    return Encoded(
        fields={"input_ids": torch.ones(count, dtype=torch.int32)},
        starts=np.arange(count + 1, dtype=np.int64),
        labels=torch.arange(count, dtype=torch.int32),
        pad=0,
    )


@pytest.mark.parametrize(
    ("count", "kept"), [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1), (5, 1), (8, 2), (10, 2), (100, 20)]
)
def test_a_fifth_is_held_out_and_nothing_is_lost(count, kept):
    (client,) = clients.make({"a": np.arange(count, dtype=np.int32)}, make(count), Key(0))
    assert len(client.held_out) == kept
    assert sorted([*client.train, *client.held_out]) == list(range(count))


def test_what_is_held_out_depends_on_key_and_client_only():
    dealt = {"a": np.arange(50, dtype=np.int32), "b": np.arange(50, 100, dtype=np.int32)}
    first, again, other = (clients.make(dealt, make(100), key) for key in (Key(0), Key(0), Key(1)))
    alone = clients.make({"a": dealt["a"]}, make(100), Key(0))
    assert first[0].held_out.tolist() == again[0].held_out.tolist() == alone[0].held_out.tolist()
    assert first[0].held_out.tolist() != other[0].held_out.tolist()
    assert [(client.id, client.name) for client in first] == [(0, "a"), (1, "b")]


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(DataError, match="from 0 to below 1"):
        clients.make({}, make(0), Key(0), held_out=share)


def test_batches_differ_between_clients_and_rounds_and_repeat_otherwise():
    places = np.arange(30, dtype=np.int32)
    one, two = clients.make({"a": places, "b": places}, make(30), Key(0), held_out=0.0)

    def order(client, key, round):
        return [int(label) for batch in client.batches(key, round, batch_size=8) for label in batch["labels"]]

    first = order(one, Key(0), 0)
    assert sorted(first) == list(range(30))
    assert order(one, Key(0), 0) == first
    assert first not in [order(two, Key(0), 0), order(one, Key(0), 1), order(one, Key(1), 0)]


def test_ten_thousand_clients_weigh_little_more_than_their_indices():
    count = 40_000
    data = make(count)
    dealt = dict(enumerate(np.array_split(np.arange(count, dtype=np.int32), 10_000)))
    made = clients.make({str(name): places for name, places in dealt.items()}, data, Key(0))
    assert all(client.data is data for client in made)
    indices = sum(client.train.nbytes + client.held_out.nbytes for client in made)
    assert indices == 4 * count
    assert sys.getsizeof(made[0]) < 200
    assert all(array.base is None for array in (made[0].train, made[0].held_out))
