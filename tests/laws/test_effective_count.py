"""The effective K of each method with directions, measured by its cosine to the true gradient.

An estimate from K independent gaussian directions in d dimensions has ``cos^2 = K / (K + d + 1)`` to the gradient. A
method that secretly uses one direction, gives all clients the same, or scales slopes wrongly, is found out here.
"""

from __future__ import annotations

import pytest

from spry.core.keys import Key
from spry.core.params import dot, size
from spry.estimators.slopes import central_difference
from spry.federated.methods import METHODS
from spry.federated.methods.aligned import cosine
from spry.federated.methods.fwdllm import Pacing, paced
from spry.optim.rules import sgd
from spry.wire.messages import Answer
from tests.laws import problem

PROJECTED = ["spry", "spry_per_iteration", "fedfgd", "fedmezo", "baffle", "fwdllm"]

DRAWS = 120


def estimate(name, clients, count, seed):
    """The aggregate after one batch, read off a step of size 1; all clients have the same data."""
    known = METHODS[name].option_names
    wanted = {"split": "everything", "num_directions": count, "fd_step": 1e-5}
    own = {option: value for option, value in wanted.items() if option in known}
    units = problem.units(exact=False)
    if name == "fwdllm":  # which steps at once only if it may not wait
        algorithm = paced(
            name=name, units=units, slope=central_difference(1e-5), num_directions=count, candidates=10,
            server=sgd(1.0), pacing=Pacing(attempts=1),
        )  # fmt: skip
    else:
        algorithm = METHODS[name](units, client=sgd(1.0), server=sgd(1.0), **own)
    state = algorithm.init(problem.weights())
    orders = algorithm.plan(state, list(range(clients)), Key(seed))
    answers = [
        Answer(o, algorithm.train(problem.loss_of, o, [problem.batch(0)], 1).reply) for o in orders.values()
    ]
    after = algorithm.absorb(state, answers)
    return {n: w - after.weights[n] for n, w in state.weights.items()}


@pytest.mark.parametrize(("clients", "count"), [(1, 1), (1, 12), (4, 3)])
@pytest.mark.parametrize("name", PROJECTED)
def test_effective_count(name, clients, count):
    w = problem.weights()
    true, d = problem.gradient(problem.ProblemLoss(problem.batch(0)), w), size(problem.weights())
    found = [estimate(name, clients, count, seed) for seed in range(DRAWS)]
    square = sum(cosine(g, true) ** 2 for g in found) / DRAWS
    effective = (d + 1) * square / (1 - square)
    assert effective == pytest.approx(clients * count, rel=0.4 if clients * count == 1 else 0.2)
    scale = (
        sum(dot(g, true) for g in found) / DRAWS / dot(true, true)
    )  # 1 if slopes are scaled as they should be
    assert scale == pytest.approx(1.0, abs=0.5 if clients * count == 1 else 0.2)
