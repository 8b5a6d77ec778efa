"""Splits over every relation of clients to units."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spry.core.unit import Unit
from spry.experiment.build import SPLITS
from spry.federated.split import contiguous, cyclic, everything, head_only

HEAD = Unit(name="head", names=("head.w",), head=True)


def units(count):
    return (*(Unit(name=f"u{i}", names=(f"u{i}.A", f"u{i}.B")) for i in range(count)), HEAD)


def clients(count):
    return [10 * i + 3 for i in range(count)]


ALL = {"everything": everything, "head_only": head_only, **SPLITS}


@pytest.mark.parametrize("name", ALL)
@given(st.integers(0, 12), st.integers(1, 12), st.integers(0, 30))
def test_every_client_gets_the_head_and_units_in_model_order(name, count, m, round):
    dealt = ALL[name](units(count), clients(m), round)
    assert list(dealt) == clients(m)
    order = {unit.name: i for i, unit in enumerate(units(count))}
    for own in dealt.values():
        assert own[-1] is HEAD
        assert [order[unit.name] for unit in own] == sorted({order[unit.name] for unit in own})


@pytest.mark.parametrize("name", SPLITS)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 30))
def test_every_unit_is_owned_as_evenly_as_can_be(name, count, m, round):
    dealt = SPLITS[name](units(count), clients(m), round)
    owners = Counter(unit.name for own in dealt.values() for unit in own if not unit.head)
    assert len(owners) == count
    assert set(owners.values()) <= {max(1, m // count), max(1, -(-m // count))}
    sizes = [len(own) - 1 for own in dealt.values()]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize(("count", "m"), [(6, 3), (3, 6), (4, 4), (5, 2)])
def test_the_deal_rotates_through_all_units(name, count, m):
    seen = set()
    for round in range(max(count, m)):
        seen |= {unit.name for unit in SPLITS[name](units(count), clients(m), round)[3]}
    assert seen == {unit.name for unit in units(count)}


def test_contiguous_by_hand():
    dealt = contiguous(units(5), [7, 9], 0)
    assert [u.name for u in dealt[7]] == ["u0", "u1", "head"]
    assert [u.name for u in dealt[9]] == ["u2", "u3", "u4", "head"]
    assert [u.name for u in contiguous(units(5), [7, 9], 1)[7]] == ["u2", "u3", "u4", "head"]


def test_more_units_than_clients_by_hand():
    dealt = cyclic(units(5), [7, 9], 0)
    assert [u.name for u in dealt[7]] == ["u0", "u2", "u4", "head"]
    assert [u.name for u in dealt[9]] == ["u1", "u3", "head"]
    assert [u.name for u in cyclic(units(5), [7, 9], 1)[7]] == ["u1", "u3", "head"]


def test_more_clients_than_units_by_hand():
    dealt = cyclic(units(2), [1, 2, 3], 1)
    assert [own[0].name for own in dealt.values()] == ["u1", "u0", "u1"]
