"""Update transforms: clipping by hand, both halves in their order, and a transform of one's own in a few lines."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from tests.laws import problem
from tests.laws.test_methods import CLIENTS, VARIANTS, make

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.params import dot, tree_map
from spry.federated.transforms import Clip
from spry.optim.rules import sgd
from spry.wire.messages import Answer, Gradient, Order, Slopes, Weights

ORDER = Order(round=0, client=0, weights={"w": torch.zeros(2)}, trained=("w",), key=Key(0))
LONG = torch.tensor([3.0, 4.0])


@pytest.mark.parametrize("kind", [Weights, Gradient])
def test_a_long_update_is_shortened_and_a_short_one_is_left_alone(kind):
    assert Clip(1.0).client(kind({"w": LONG}), ORDER).values["w"].tolist() == pytest.approx([0.6, 0.8])
    assert torch.equal(Clip(9.0).client(kind({"w": LONG}), ORDER).values["w"], LONG)


def test_weights_are_clipped_around_the_weights_that_were_sent():
    order = Order(round=0, client=0, weights={"w": torch.tensor([10.0, 0.0])}, trained=("w",), key=Key(0))
    clipped = Clip(1.0).client(Weights({"w": torch.tensor([13.0, 4.0])}), order).values["w"]
    assert clipped.tolist() == pytest.approx([10.6, 0.8])


def test_each_step_of_slopes_is_clipped_by_itself():
    clipped = Clip(1.0).client(Slopes(torch.tensor([[3.0, 4.0], [0.1, 0.2]])), ORDER).slopes
    torch.testing.assert_close(clipped, torch.tensor([[0.6, 0.8], [0.1, 0.2]]))


@pytest.mark.parametrize("norm", [0.0, -1.0, float("nan")])
def test_a_norm_that_is_not_positive_is_refused(norm):
    with pytest.raises(ConfigError, match=r"client\.clip"):
        Clip(norm)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "local"])
def test_no_client_of_any_method_moves_the_server_further_than_the_norm(name):
    """With plain SGD of step 1 on the server, its step is a mean of clipped updates: no longer than the norm."""
    norm = 1e-3
    given = {"server": sgd(1.0), "transforms": [Clip(norm)], "client": sgd(10.0)}
    algorithm = make(name, **{**given, **({"threshold": 1e9} if name == "fwdllm" else {})})
    state = algorithm.init(problem.weights())
    orders = algorithm.plan(state, CLIENTS, Key(0))
    answers = [
        Answer(o, algorithm.train(problem.loss_of, o, [problem.batch(c)], 3).reply) for c, o in orders.items()
    ]
    for _, reply in answers:
        parts = [reply.payload.slopes] if isinstance(reply.payload, Slopes) else []
        assert all(part.norm() <= norm * 1.001 for part in parts)
    after = algorithm.absorb(state, answers)
    if not any(
        isinstance(reply.payload, Slopes) for _, reply in answers
    ):  # slopes bound the step through directions
        moved = tree_map(torch.sub, after.weights, state.weights)
        assert 0 < dot(moved, moved) ** 0.5 <= 2 * norm  # slices and head each keep to the norm


@dataclass
class Halves:
    """A transform of one's own: halves what clients send, doubles the gradient, and remembers who was counted."""

    log: list = field(default_factory=list)

    def client(self, payload, order):
        self.log.append(("client", order.client))
        return type(payload)({n: v / 2 for n, v in payload.values.items()})

    def server(self, gradient, cohort):
        self.log.append(("server", cohort.size, cohort.examples))
        return tree_map(lambda g: 2 * g, gradient)


def test_a_transform_of_ones_own_is_called_on_both_sides():
    own = Halves()
    plain, changed = (make("fedsgd", transforms=t) for t in ([], [own]))
    states = []
    for algorithm in (plain, changed):
        state = algorithm.init(problem.weights())
        orders = algorithm.plan(state, [3, 5], Key(0))
        answers = [
            Answer(o, algorithm.train(problem.loss_of, o, [problem.batch(c)], c).reply)
            for c, o in orders.items()
        ]
        states.append(algorithm.absorb(state, answers))
    assert own.log == [("client", 3), ("client", 5), ("server", 2, 8)]
    for n, w in states[0].weights.items():
        torch.testing.assert_close(w, states[1].weights[n], rtol=1e-12, atol=0)


def test_transforms_are_unwound_in_reverse():
    first, second = Halves(), Halves()
    first.log = second.log = log = []
    first.name, second.name = "first", "second"
    for own in (first, second):
        own.client = lambda payload, order, own=own: log.append(("client", own.name)) or payload
        own.server = lambda gradient, cohort, own=own: log.append(("server", own.name)) or gradient
    algorithm = make("fedsgd", transforms=[first, second])
    state = algorithm.init(problem.weights())
    order = algorithm.plan(state, [1], Key(0))[1]
    algorithm.absorb(
        state, [Answer(order, algorithm.train(problem.loss_of, order, [problem.batch(1)], 1).reply)]
    )
    assert log == [("client", "first"), ("client", "second"), ("server", "second"), ("server", "first")]
