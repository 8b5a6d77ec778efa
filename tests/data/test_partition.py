from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spry.core.errors import DataError
from spry.core.keys import Key
from spry.data import partition
from spry.data.dataset import Dataset


def make(labels, groups=None) -> Dataset:
    texts = [f"text {number}" for number in range(len(labels))]
    names = tuple(map(str, range(max(2, max(labels, default=0) + 1))))
    return Dataset(name="made", texts=texts, labels=labels, label_names=names, groups=groups)


DEALS = {
    "iid": partition.iid,
    "dirichlet 0.01": lambda data, clients, key: partition.dirichlet(data, clients, 0.01, key),
    "dirichlet 1": lambda data, clients, key: partition.dirichlet(data, clients, 1.0, key),
    "dirichlet 1000": lambda data, clients, key: partition.dirichlet(data, clients, 1000.0, key),
}


@pytest.mark.parametrize("deal", DEALS.values(), ids=DEALS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_every_example_is_dealt_exactly_once(deal, data):
    labels = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=60))
    clients = data.draw(st.integers(1, len(labels)))
    seed = data.draw(st.integers(0, 2**64 - 1))
    dealt = deal(make(labels), clients, Key(seed))
    assert list(dealt) == [str(client) for client in range(clients)]
    assert sorted(np.concatenate(list(dealt.values())).tolist()) == list(range(len(labels)))


@pytest.mark.parametrize("deal", DEALS.values(), ids=DEALS)
def test_the_key_alone_decides(deal):
    data = make([number % 3 for number in range(90)])
    first = deal(data, 9, Key(5))
    np.random.random_sample()  # ruff: ignore[numpy-legacy-random] - moves the global generator, which must not matter
    again, other = deal(data, 9, Key(5)), deal(data, 9, Key(6))
    assert all(np.array_equal(first[client], again[client]) for client in first)
    assert any(not np.array_equal(first[client], other[client]) for client in first)


@pytest.mark.parametrize("deal", DEALS.values(), ids=DEALS)
def test_hostile_class_counts(deal):
    labels = [0] * 50 + [1]
    dealt = deal(make(labels), 51, Key(0))
    assert sum(len(places) for places in dealt.values()) == 51
    assert sum(50 in places for places in dealt.values()) == 1


def test_iid_sizes_differ_by_at_most_one():
    smallest, largest, empty = partition.sizes(partition.iid(make([0, 1] * 51), 20, Key(0)))
    assert (smallest, largest, empty) == (5, 6, 0)


def test_a_small_alpha_skews_the_classes_and_a_large_one_does_not():
    labels = [number % 4 for number in range(4000)]

    def purity(alpha: float) -> float:
        dealt = partition.dirichlet(make(labels), 10, alpha, Key(0)).values()
        most = [max(Counter(labels[place] for place in places).values()) for places in dealt if len(places)]
        return sum(most) / len(labels)

    assert purity(0.01) > 0.8
    assert purity(1e6) == pytest.approx(0.25, abs=0.02)


def test_the_share_of_a_class_follows_the_dirichlet_distribution():
    """Each client's share has mean 1/c and variance (c - 1) / (c^2 (c alpha + 1))."""
    labels, clients, alpha = [0] * 200 + [1] * 200, 5, 0.5
    shares = []
    for seed in range(60):
        dealt = partition.dirichlet(make(labels), clients, alpha, Key(seed)).values()
        shares += [sum(place < 200 for place in places) / 200 for places in dealt]
    variance = (clients - 1) / (clients**2 * (clients * alpha + 1))
    assert np.mean(shares) == pytest.approx(1 / clients, abs=1e-9)
    assert np.var(shares) == pytest.approx(variance, rel=0.3)


def test_natural_ids_make_one_client_each_in_the_order_they_appear():
    dealt = partition.natural(make([0, 1, 0, 1], groups=["zoe", "adam", "zoe", "eve"]))
    found = [(name, places.tolist()) for name, places in dealt.items()]
    assert found == [("zoe", [0, 2]), ("adam", [1]), ("eve", [3])]


def test_what_cannot_be_dealt_is_refused():
    data = make([0, 1, 0])
    for clients in (0, -1, 4):
        for deal in DEALS.values():
            with pytest.raises(DataError, match=f"{clients} clients .* Allowed: 1 to 3"):
                deal(data, clients, Key(0))
    for alpha in (0.0, -1.0, float("nan"), float("inf"), 1e300):
        with pytest.raises(DataError, match="Allowed: above 0"):
            partition.dirichlet(data, 2, alpha, Key(0))
    with pytest.raises(DataError, match="no natural client ids"):
        partition.natural(data)
