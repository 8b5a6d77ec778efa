"""Flow as a method: the laws of all methods that weights beside the model's leave in force, and its own."""

from __future__ import annotations

import pytest
import torch

from spry.contrib.flow import Flow  # ruff: ignore[unused-import]  # also where it was installed without
from spry.contrib.flow.policy import BIAS, NAMES, WEIGHT
from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.core.params import add, tree_map
from spry.federated.methods import METHODS
from spry.optim.rules import sgd
from spry.wire.codec import decode_order, decode_reply, encode_order, encode_reply
from tests.laws import problem, test_methods, test_step_sizes
from tests.laws.test_methods import CLIENTS, VARIANTS, make, run

FLOWS = {
    "flow": ("flow", {}),
    "flow, residual": ("flow", {"gradient": "residual"}),
    "flow, forward": ("flow", {"gradient": "forward", "num_directions": 2}),
}
LAWS = [
    test_methods.test_two_runs_agree_bit_for_bit,
    test_methods.test_the_order_of_replies_does_not_matter,
    test_methods.test_stopping_and_going_on_changes_nothing,
    test_methods.test_orders_and_state_are_never_written,
    test_methods.test_a_client_without_batches_changes_nothing,
    test_step_sizes.test_with_a_decay_the_steps_are_those_computed_by_hand,
]


@pytest.fixture(autouse=True)
def _flows(monkeypatch):
    for name, variant in FLOWS.items():
        monkeypatch.setitem(VARIANTS, name, variant)


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_laws_hold(law, name):
    law(name)


def test_orders_carry_the_models_weights_and_the_policy():
    algorithm = make("flow")
    state = algorithm.init(problem.weights())
    order = algorithm.plan(state, CLIENTS, Key(0))[4]
    assert order.weights.keys() == {*problem.weights(), *NAMES} == set(order.trained)
    read = decode_order(encode_order(order), state.weights)
    assert all(torch.equal(read.weights[n], order.weights[n]) for n in order.weights)


def test_local_adapters_stay_where_they_were_made():
    """A reply holds the global adapter and the policy; what was tuned locally is for the client's own answers."""
    algorithm = make("flow", client=sgd(0.1))
    order = algorithm.plan(algorithm.init(problem.weights()), [4], Key(0))[4]
    batches = [problem.batch(1), problem.batch(2)]
    result = algorithm.train(problem.loss_of, order, batches, 3)
    sent = decode_reply(encode_reply(result.reply, order), order).payload.values
    assert sent.keys() == set(order.trained)
    by_hand = problem.weights()
    for batch in batches:
        loss = problem.ProblemLoss(batch)
        by_hand = add(by_hand, tree_map(lambda g: -0.1 * g, problem.gradient(loss, by_hand)))
    for n in problem.weights():
        torch.testing.assert_close(result.weights[n], by_hand[n], rtol=1e-12, atol=1e-14)
        assert not torch.equal(sent[n], result.weights[n])
    assert sent[WEIGHT].any() and sent[BIAS].any()


def test_with_the_gate_shut_it_is_fedavg():
    """Where g = 0, what clients send of the global adapter is what they send under FedAvg."""
    flow, fedavg = make("flow", client=sgd(0.1)), METHODS.fedavg(problem.UNITS, client=sgd(0.1))
    state = flow.init(problem.weights())
    shut = {**state.weights, BIAS: torch.full_like(state.weights[BIAS], -1e4)}
    order = flow.plan(state, [4], Key(0))[4]
    batches = [problem.batch(1), problem.batch(2)]
    one = flow.train(
        problem.loss_of, type(order)(**{**vars(order), "weights": shut}), batches, 3
    ).reply.payload.values
    plain = fedavg.plan(fedavg.init(problem.weights()), [4], Key(0))[4]
    other = fedavg.train(problem.loss_of, plain, batches, 3).reply.payload.values
    for n in other:
        torch.testing.assert_close(one[n], other[n], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", FLOWS)
def test_it_lowers_the_loss(name):
    _, losses, _ = run(name, rounds=30, given={"client": sgd(0.1)})
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_a_head_without_a_linear_map_is_refused():
    weights = {n: w for n, w in problem.weights().items() if n != "head.weight"}
    with pytest.raises(ModelError, match=r"no linear map that is trained.*schedule\.local_tuning"):
        make("flow").init(weights)
