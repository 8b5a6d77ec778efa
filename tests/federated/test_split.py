"""Splits over every relation of clients to units."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spry.core.errors import ConfigError
from spry.core.units import Unit
from spry.federated.methods.options import SPLITS
from spry.federated.split import budgeted, contiguous, cyclic, everything, head_only

HEAD = Unit(name="head", names=("head.w",), head=True)


def units(count):
    return (*(Unit(name=f"u{i}", names=(f"u{i}.A", f"u{i}.B")) for i in range(count)), HEAD)


def clients(count):
    return [10 * i + 3 for i in range(count)]


ALL = {"everything": everything, "head_only": head_only, **SPLITS, "budgeted": budgeted([0.1, 1.0, 0.5])}
DEALS = {name: split for name, split in SPLITS.items() if split is not everything}


@pytest.mark.parametrize("name", ALL)
@given(st.integers(0, 12), st.integers(1, 12), st.integers(0, 30))
def test_every_client_gets_the_head_and_units_in_model_order(name, count, m, round):
    dealt = ALL[name](units(count), clients(m), round)
    assert list(dealt) == clients(m)
    order = {unit.name: i for i, unit in enumerate(units(count))}
    for own in dealt.values():
        assert own[-1] is HEAD
        assert [order[unit.name] for unit in own] == sorted({order[unit.name] for unit in own})


@pytest.mark.parametrize("name", DEALS)
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


def sized(sizes):
    return (*(Unit(name=f"u{i}", names=(f"u{i}.A",), size=n) for i, n in enumerate(sizes)), HEAD)


def load(own):
    return sum(unit.size for unit in own if not unit.head)


SIZES = st.lists(st.integers(1, 5000), min_size=1, max_size=16)


@given(SIZES, st.integers(1, 12), st.integers(0, 30))
def test_cyclic_is_balanced_by_weights_up_to_one_unit(sizes, m, round):
    if len(sizes) > m:
        loads = [load(own) for own in cyclic(sized(sizes), clients(m), round).values()]
        assert max(loads) - min(loads) <= max(sizes)


@given(SIZES, st.integers(1, 12), st.integers(0, 30))
def test_contiguous_is_balanced_by_weights_up_to_one_unit_and_leaves_nobody_idle(sizes, m, round):
    if len(sizes) > m:
        dealt = contiguous(sized(sizes), clients(m), round)
        assert all(len(own) > 1 for own in dealt.values())
        assert sorted(u.name for own in dealt.values() for u in own[:-1]) == sorted(
            f"u{i}" for i in range(len(sizes))
        )
        assert max(map(load, dealt.values())) <= sum(sizes) / m + 2 * max(sizes)


def test_balance_is_by_weights_and_not_by_count():
    """Two sizes in turn, as of LoRA on query and on the wide output: by count one client would get 5 of 6 weights."""
    dealt = cyclic(sized([1, 5] * 4), [7, 9], 0)
    assert [load(own) for own in dealt.values()] == [13, 11]  # by count: 4 and 20
    dealt = contiguous(sized([1, 1, 1, 1, 4]), [7, 9], 0)
    assert [u.name for u in dealt[7]] == ["u0", "u1", "u2", "u3", "head"]


@given(SIZES, st.lists(st.floats(0.01, 1.0), min_size=1, max_size=5), st.integers(1, 30), st.integers(0, 30))
def test_no_budget_is_overrun_and_slices_are_runs(sizes, shares, m, round):
    units = sized(sizes)
    dealt = budgeted(shares)(units, list(range(m)), round)
    places = {unit.name: i for i, unit in enumerate(units)}
    for client, own in dealt.items():
        assert load(own) <= shares[client % len(shares)] * sum(sizes) * (1 + 1e-6)
        held = [places[unit.name] for unit in own[:-1]]
        assert held == list(range(held[0], held[0] + len(held))) if held else True


@given(SIZES, st.integers(1, 30), st.integers(0, 30))
def test_with_room_for_all_no_unit_stays_idle(sizes, m, round):
    dealt = budgeted([1.0])(sized(sizes), list(range(m)), round)
    assert {unit.name for own in dealt.values() for unit in own} == {unit.name for unit in sized(sizes)}


def test_budgets_by_hand():
    """Ten units of one weight: budgets 1, 3 and 10 tenths give runs of 1, 2 and the 7 left, the smallest at the top."""
    dealt = budgeted([0.3, 1.0, 0.1])(sized([1] * 10), [0, 1, 2], 0)
    assert [u.name for u in dealt[2]] == ["u9", "head"]
    assert [u.name for u in dealt[0]] == ["u7", "u8", "head"]
    assert [u.name for u in dealt[1]] == [f"u{i}" for i in range(7)] + ["head"]
    # a larger budget grows the slice, a smaller one shrinks it
    assert [len(budgeted([b, 1.0])(sized([1] * 10), [0, 1], 0)[0]) - 1 for b in (0.1, 0.25, 0.5, 1.0)] == [
        1,
        2,
        3,
        5,
    ]
    # too small for any unit: the head alone
    assert [u.name for u in budgeted([0.05, 1.0])(sized([1] * 10), [0, 1], 0)[0]] == ["head"]


@pytest.mark.parametrize("shares", [[], [0.0], [1.5], [-1.0], [0.5, float("nan")]])
def test_senseless_budgets_are_refused(shares):
    with pytest.raises(ConfigError, match="greater than 0"):
        budgeted(shares)
