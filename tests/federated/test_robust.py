"""Uniting replies so that a few wrong ones move the server little."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import trim_mean
from tests.laws import problem

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.experiment.build import check_settings
from spry.experiment.config import read_config
from spry.federated.methods import METHODS
from spry.federated.robust import Aggregation, OwnersMiddle
from spry.federated.summing import Summing
from spry.federated.transforms import Clip
from spry.optim.rules import sgd
from spry.wire.messages import Answer, Gradient, Order, Reply, Slopes, Weights

KEY = Key(0)
MEDIAN, TRIMMED = Aggregation(rule="median"), Aggregation(rule="trimmed-mean", trim=0.2)


@pytest.mark.parametrize("owners", [1, 2, 3, 5, 10, 11])
@pytest.mark.parametrize("trim", [None, 0.1, 0.2, 0.49])
def test_the_middle_is_numpys_median_or_scipys_trimmed_mean(owners, trim):
    values = torch.randn(owners, 3, 4)
    united = OwnersMiddle(trim)
    for client, value in enumerate(values):
        united.take(10 * client + 1, {"w": value})
    got = united.read({"w": values[0], "nobody's": values[0]})
    wanted = np.median(values, axis=0) if trim is None else trim_mean(values.double().numpy(), trim, axis=0)
    assert list(got) == ["w"]
    np.testing.assert_allclose(got["w"], wanted, rtol=1e-6, atol=1e-7)
    moved = united.pseudo_gradient({"w": torch.ones(3, 4)})["w"]
    np.testing.assert_allclose(moved, 1 - wanted, rtol=1e-6, atol=1e-6)


def test_a_client_without_examples_has_no_say_and_one_with_many_no_more_than_others():
    united = OwnersMiddle(None)
    for examples, value in ((1, 1.0), (2**32, 9.0), (1, 2.0), (0, 5.0), (0, 5.0)):
        united.take(examples, {"w": torch.tensor([value])})
    assert united.read({"w": torch.zeros(1)})["w"].item() == pytest.approx(2.0)
    assert united.cohort(3).size == 5


def gradient(*, wrong, aggregation, name="fedsgd", clients=10, **given):
    """The step of one round from zero, where some clients send the opposite a hundredfold."""
    algorithm = METHODS[name](problem.UNITS, server=sgd(1.0), aggregation=aggregation, **given)
    state = algorithm.init(problem.weights())
    orders = algorithm.plan(state, range(clients), KEY)
    answers = []
    for client, order in orders.items():
        reply = algorithm.train(problem.loss_of, order, [problem.batch(client)], 10).reply
        answers.append(Answer(order, scaled(reply, order, -100.0) if client < wrong else reply))
    after = algorithm.absorb(state, answers)
    return torch.cat([(state.weights[n] - w).flatten() for n, w in after.weights.items()])


def scaled(reply, order, factor):
    match reply.payload:
        case Gradient(values):
            payload = Gradient({n: factor * v for n, v in values.items()})
        case Weights(values):
            start = order.weights
            payload = Weights({n: start[n] + factor * (v - start[n]) for n, v in values.items()})
        case Slopes(slopes, beside):
            payload = Slopes(factor * slopes, {n: factor * v for n, v in beside.items()})
    return replace(reply, payload=payload)


@pytest.mark.parametrize("name", ["fedsgd", "fedavg"])
@pytest.mark.parametrize("aggregation", [MEDIAN, TRIMMED])
def test_two_of_ten_wrong_clients_turn_the_mean_around_and_not_the_middle(name, aggregation):
    def along(united, wrong):
        honest, found = (gradient(wrong=n, aggregation=united, name=name) for n in (0, wrong))
        return float(torch.cosine_similarity(honest, found, dim=0))

    assert along(Aggregation(), 2) < 0
    assert along(aggregation, 2) > 0.7


@pytest.mark.parametrize("name", ["fedsgd", "fedavg", "spry_per_iteration"])
def test_clipping_bounds_what_one_reply_moves(name):
    honest, found = (
        gradient(wrong=n, aggregation=Aggregation(clip=0.01), name=name, clients=3) for n in (0, 1)
    )
    free = gradient(wrong=1, aggregation=Aggregation(), name=name, clients=3)
    longest = 10 if name == "spry_per_iteration" else 1  # a direction's length; slopes are along it
    assert (found - honest).norm() < 0.02 * longest < 0.5 * (free - honest).norm()


def test_the_server_shortens_as_a_client_would():
    """Slopes, a step at a time, and what comes beside them."""
    order = Order(round=0, client=0, weights={"h": torch.zeros(2)}, trained=("h",), key=KEY)
    sent = Slopes(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), {"h": torch.tensor([0.0, 10.0])})
    reply = Reply(round=0, client=0, examples=1, payload=sent, steps=2, loss=0.5)
    got = Aggregation(clip=1.0).shortened(order, reply, Weights).payload
    assert torch.equal(got.slopes, Clip(1.0).client(Slopes(sent.slopes), order).slopes)
    assert got.slopes.norm(dim=1).tolist() == pytest.approx([1.0, 0.5])
    assert got.exact["h"].tolist() == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize(
    ("aggregation", "clients", "says"),
    [(MEDIAN, 8, "at least 3 owners of each weight; layer2.A has 2 among 8 clients"),
     (TRIMMED, 12, "at least 5 owners"),
     (MEDIAN, 3, "has 1 among 3 clients")],
)  # fmt: skip
def test_too_few_owners_are_refused_where_rounds_are_planned(aggregation, clients, says):
    algorithm = METHODS.spry(problem.UNITS, aggregation=aggregation)
    orders = algorithm.plan(algorithm.init(problem.weights()), range(clients), KEY)
    with pytest.raises(ConfigError, match=says):
        algorithm.aggregation.check(orders.values())
    everybody = METHODS.fedavg(problem.UNITS, aggregation=aggregation)
    everybody.aggregation.check(everybody.plan(everybody.init(problem.weights()), range(5), KEY).values())


@pytest.mark.parametrize("name", ["fwdllm", "local"])
def test_methods_that_unite_in_their_own_way_refuse_others(name):
    with pytest.raises(ConfigError, match="a way of its own to unite replies"):
        METHODS[name](problem.UNITS, aggregation=MEDIAN)


def test_privacy_and_robust_rules_exclude_each_other():
    with pytest.raises(ConfigError, match="no more than the sum of replies"):
        METHODS.fedavg(problem.UNITS, aggregation=MEDIAN, summing=Summing(key=KEY))
    settings = {"privacy.mechanism": "central", "privacy.clip": 1.0, "privacy.noise": 1.0}
    with pytest.raises(ConfigError, match="what privacy costs is counted for"):
        check_settings(read_config("plain", {**settings, "runtime.over_select": 2}))
