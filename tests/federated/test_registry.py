"""The table of methods: options are validated by their method, and a method of one's own takes a few lines."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from tests.laws import problem
from tests.laws.test_methods import BUILT_IN

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.estimators.backprop import backprop
from spry.experiment.config import Config
from spry.federated.algorithm import compose
from spry.federated.methods import METHODS, Options, find_method, method
from spry.federated.split import contiguous
from spry.optim.named import Named
from spry.wire.messages import Answer


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(
        ConfigError, match=r"'spry' has no option 'num_direction'\. Did you mean 'num_directions'"
    ):
        find_method("spry").parse({"num_direction": 2})


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("spry", {"num_directions": 0}),
        ("spry", {"num_directions": "many"}),
        ("spry", {"split": "cyclical"}),
        ("spry", {"send": "gradients"}),
        ("fedmezo", {"fd_step": -1.0}),
        ("fwdllm", {"threshold": 0}),
        ("fedavg", {"checkpoint": "perhaps"}),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_key(name, given):
    with pytest.raises(
        ConfigError, match=f"setting method.{next(iter(given))} is {next(iter(given.values()))!r}"
    ):
        find_method(name).parse(given)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_method_says_what_it_is_and_describes_its_options(name):
    info = METHODS[name]
    assert info.summary.endswith(".") and info.paper
    assert info.parse({}) == info.options()
    assert info.client is not None or info.server is not None


def test_a_list_of_budgets_is_a_split():
    made = find_method("spry")(problem.UNITS, split=[0.4])
    order = made.plan(made.init(problem.weights()), [0], Key(0))[0]
    assert 0 < sum(name.startswith("layer") for name in order.trained) < 6
    with pytest.raises(ConfigError, match="budgets"):
        find_method("spry")(problem.UNITS, split=[1.5])


@pytest.fixture
def toy():
    @method("toy", paper="none", client=Named("sgd", 0.1), server=Named("sgd", 1.0))
    @dataclass(frozen=True, kw_only=True)
    class Toy(Options):
        """Backpropagation on neighbouring units, some of it undone."""

        damping: float = 0.5

        def build(self, setup):
            return compose(
                name=setup.name, units=setup.units, estimator=backprop(), client=setup.client,
                server=Named("sgd", self.damping).make(), split=contiguous,
            )  # fmt: skip

    yield
    del METHODS["toy"]


def test_a_method_of_ones_own_is_configured_and_trains(toy):
    config = Config.model_validate({"method": {"name": "toy", "damping": 0.25}})
    assert config.flat()["method.damping"] == pytest.approx(0.25)
    with pytest.raises(ConfigError, match="Did you mean 'damping'"):
        config.with_settings({"method.dampin": 1})
    made = config.method.info(problem.UNITS, **config.method.model_extra)
    state = made.init(problem.weights())
    losses = []
    for _ in range(3):
        orders = made.plan(state, [1, 2], Key(0))
        answers = [
            Answer(o, made.train(problem.loss_of, o, [problem.batch(0)], 1).reply) for o in orders.values()
        ]
        losses.append(answers[0].reply.loss)
        state = made.absorb(state, answers)
    assert losses == sorted(losses, reverse=True) and not torch.equal(
        state.weights["head.bias"], problem.weights()["head.bias"]
    )
