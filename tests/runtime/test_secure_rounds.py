"""Rounds whose server learns sums alone: as exact as their fixed point, whoever falls out, and counted to the byte."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from spry.core.errors import TrainingError
from spry.core.keys import Key
from spry.federated.summing import Summing
from spry.optim.rules import sgd
from spry.runtime.executor import Failure, InProcess
from spry.runtime.parties import SecureAggregation
from spry.runtime.rounds import simulate
from tests.laws import problem
from tests.laws.test_methods import make
from tests.runtime.stage import Clients, Task

SECURE = SecureAggregation(bits=64, largest=64.0)


class Losing:
    """An executor some of whose clients never answer."""

    def __init__(self, *lost):
        self.lost = lost

    def run(self, orders, train, deadline):
        for outcome in InProcess().run(orders, train, deadline):
            lost = outcome.order.client in self.lost
            yield Failure(outcome.order, "it fell out") if lost else outcome


def summed(name, least=3, tells_loss=False, **given):
    summing = Summing(key=Key(0), least=least, tells_loss=tells_loss)
    if name in {"spry_per_iteration", "baffle"}:
        given |= {"num_directions": 4, "max_steps": 1}
    return make(name, summing=summing, server=sgd(1.0), **given)


def run(name, secure=SECURE, asked=9, executor=None, rounds=2, least=3, start=None, **given):
    algorithm = summed(name, least, secure is None, **given)
    return list(
        simulate(
            algorithm,
            Task(),
            Clients(number=asked),
            state=start and algorithm.init(start),
            rounds=rounds,
            clients_per_round=asked,
            secure=secure,
            executor=executor,
        )
    )


@pytest.mark.parametrize("name", ["fedavg", "fedsgd", "spry", "spry_per_iteration"])
@pytest.mark.parametrize("lost", [(), (2,)])
def test_weights_are_those_of_plain_sums(name, lost):
    """Groups of six bear it that one falls out."""
    asked, least = (12, 6) if lost else (9, 3)
    plain, hidden = (run(name, secure, asked, Losing(*lost), least=least)[-1] for secure in (None, SECURE))
    for weight, value in plain.weights.items():
        torch.testing.assert_close(hidden.weights[weight], value, rtol=0, atol=1e-12)
    assert len(hidden.survivors) == asked - len(lost)


def test_no_client_tells_its_loss_or_how_many_examples_it_has():
    for one in run("fedavg"):
        assert math.isnan(one.loss)
        assert all(math.isnan(record.loss) and record.examples == 1 for record in one.clients)


def test_each_unit_has_enough_owners():
    (one,) = run("spry", rounds=1)
    for unit in problem.UNITS:
        assert sum(unit.name in record.units for record in one.clients) >= 3


def test_two_owners_are_too_few_and_their_unit_keeps_its_value():
    (one,) = run("spry", rounds=1, executor=Losing(0))
    failed = {record.client: record.failed for record in one.clients if record.failed}
    assert len(failed) == 3 and failed.pop(0) == "it fell out"
    assert all("2 of 3 clients sent their numbers, and it takes 3" in why for why in failed.values())
    assert len(one.untrained_units) == 1


def test_where_no_group_is_large_enough_the_round_is_refused():
    with pytest.raises(TrainingError, match="2 of 2 clients told their keys, and it takes 3"):
        run("fedavg", asked=2)


def test_a_number_beyond_the_range_takes_its_client_out():
    small = replace(SECURE, largest=1e-9)
    with pytest.raises(TrainingError, match=r"privacy\.largest"):
        run("fedavg", small)


def test_what_the_protocol_sends_is_what_the_ledger_says():
    """9 clients in a group: own keys, 8 sealed pairs of shares, masked numbers, 9 shares; the rest is frames."""
    (one,) = run("fedavg", rounds=1)
    (plain,) = run("fedavg", None, rounds=1)
    size = sum(value.numel() for value in problem.weights().values())
    least = 2 * 32 + 8 * 148 + 8 * size + 9 * 66
    for record, other in zip(one.clients, plain.clients, strict=True):
        assert least < record.bytes_up < least + 400
        down = record.bytes_down - other.bytes_down
        assert 9 * 64 + 8 * 148 < down < 9 * 64 + 8 * 148 + 400
