"""FwdLLM's pacing, worked by hand, on a loss whose gradient is a constant of the client."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.laws import problem

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.units import Unit
from spry.estimators.directions import gaussian
from spry.estimators.slopes import forward_mode
from spry.federated.methods import METHODS
from spry.federated.methods.fwdllm import HALVES, LAST_GRADIENT, PACE, Pacing, paced, probe_weight, variance
from spry.optim.rules import sgd
from spry.wire.messages import Answer, Gradient, Reply

UNITS = (Unit(name="u", names=("A", "B")), Unit(name="head", names=("h",), head=True))
WEIGHTS = {"A": torch.tensor([1.0]), "B": torch.tensor([2.0, 2.0]), "h": torch.tensor([0.0])}


def algorithm(pacing, count=1, units=UNITS, candidates=10):
    return paced(
        name="fwdllm", units=units, slope=forward_mode, num_directions=count, candidates=candidates,
        server=sgd(1.0), pacing=pacing,
    )  # fmt: skip


def attempt(made, state, gradients, examples=1):
    """One attempt in which client c finds the gradient ``gradients[c]`` in B, and 1 elsewhere."""
    orders = made.plan(state, list(gradients), Key(0))
    answers = [
        Answer(
            order,
            Reply(
                round=order.round, client=c, examples=examples, steps=1, loss=0.0,
                payload=Gradient({"A": torch.ones(1), "B": torch.tensor(gradients[c]), "h": torch.ones(1)}),
            ),
        )
        for c, order in orders.items()
    ]  # fmt: skip
    return orders, made.absorb(state, answers)


def test_variance_by_hand():
    """Two values a and b have the sample variance (a - b)^2 / 2: here 2 and 0, on average 1."""
    assert variance(torch.tensor([1.0, 5.0]), torch.tensor([3.0, 5.0])) == pytest.approx(1.0)


def test_the_probe_is_the_top_of_the_body():
    assert probe_weight(UNITS) == "B"
    assert probe_weight(UNITS[1:]) == "h"


def test_a_pace_by_hand():
    """Threshold 1. In the first attempt the halves' means are 2 and 0: variance 2, wait and ask more devices."""
    made = algorithm(Pacing(threshold=1.0, devices=2, attempts=9))
    state = made.init(WEIGHTS)
    orders, state = attempt(made, state, {0: [2.0, 2.0], 1: [0.0, 0.0]})
    assert [(o.num_directions, o.group) for o in orders.values()] == [(1, 0), (1, 1)]
    assert torch.equal(state.weights["B"], WEIGHTS["B"])
    assert state.round == 1 and int(state.memory[PACE]["attempts"]) == 1 and LAST_GRADIENT not in state.memory
    assert [state.memory[half]["B"].tolist() for half in HALVES] == [[2.0, 2.0], [0.0, 0.0]]
    # halves are now (2 + 1 + 1) / 3 = 4/3 and (0 + 1 + 1) / 3 = 2/3: variance (2/3)^2 / 2 = 2/9 < 1, a step on 1
    orders, state = attempt(made, state, {4: [1.0, 1.0], 5: [1.0, 1.0], 6: [1.0, 1.0], 7: [1.0, 1.0]})
    assert state.round == 2 and PACE not in state.memory
    assert state.memory[LAST_GRADIENT]["B"].tolist() == pytest.approx([1.0, 1.0])
    assert state.weights["B"].tolist() == pytest.approx([1.0, 1.0])
    assert state.weights["A"].tolist() == [0.0]
    # the next round begins anew, and everyone is told the gradient
    orders, _ = attempt(made, state, {8: [1.0, 1.0], 9: [1.0, 1.0]})
    assert all(order.guess is not None and order.num_directions == 1 for order in orders.values())


def test_devices_first_then_directions_then_the_cap():
    made = algorithm(Pacing(threshold=1e-9, devices=3, attempts=6), count=2)
    state, counts, stepped = made.init(WEIGHTS), [], []
    for _ in range(8):
        before = state.weights
        orders, state = attempt(made, state, {0: [9.0, 9.0], 1: [-9.0, -8.0]})
        counts.append(orders[0].num_directions)
        stepped.append(not torch.equal(state.weights["B"], before["B"]))
    assert counts == [2, 2, 2, 4, 8, 16, 2, 2]
    assert stepped == [False] * 5 + [True] + [False] * 2


def test_every_direction_of_every_example_counts_the_same():
    """Attempts with K = 1 (gradient 0) and K = 2 (gradient 3): the mean over directions is 6 / 3 = 2."""
    made = algorithm(Pacing(threshold=1e-9, devices=1, attempts=2))
    _, state = attempt(made, made.init(WEIGHTS), {0: [0.0, 0.0], 1: [0.0, 1e-3]}, examples=5)
    _, state = attempt(made, state, {2: [3.0, 3.0], 3: [3.0, 3.0]}, examples=5)
    assert state.memory[LAST_GRADIENT]["B"][0].item() == pytest.approx(2.0)


def test_one_device_alone_cannot_agree_with_itself():
    made = algorithm(Pacing(threshold=1e9, attempts=3))
    _, state = attempt(made, made.init(WEIGHTS), {0: [1.0, 1.0]})
    assert PACE in state.memory
    _, state = attempt(made, state, {1: [1.0, 1.0]})
    _, state = attempt(made, state, {2: [1.0, 1.0]})
    assert PACE not in state.memory and state.weights["A"].item() == pytest.approx(0.0)


def test_nothing_collected_by_the_cap_is_no_step():
    made = algorithm(Pacing(threshold=1.0, attempts=1))
    _, state = attempt(made, made.init(WEIGHTS), {0: [1.0, 1.0], 1: [1.0, 1.0]}, examples=0)
    assert all(torch.equal(state.weights[n], WEIGHTS[n]) for n in WEIGHTS)
    assert not state.memory


def test_more_directions_lower_the_variance_of_real_slopes():
    """The same clients with K = 1 and with K = 64: the variance on the probe falls, so the pacing can end."""
    found = {}
    for count in (1, 64):
        made = algorithm(Pacing(threshold=1e-12, attempts=9), count=count, units=problem.UNITS, candidates=1)
        state = made.init(problem.weights())
        orders = made.plan(state, list(range(8)), Key(0))
        answers = [
            Answer(o, made.train(problem.loss_of, o, [problem.batch(0)], 1).reply) for o in orders.values()
        ]
        memory = made.absorb(state, answers).memory
        name = probe_weight(problem.UNITS)
        halves = [memory[half][name] / int(memory[PACE][f"summed {i}"]) for i, half in enumerate(HALVES)]
        found[count] = variance(*halves)
    assert found[64] < found[1] / 8


def test_clients_draw_ten_times_as_many_and_keep_what_follows_the_hint():
    made = algorithm(Pacing(), units=problem.units(exact=False))
    state = replace(made.init(problem.weights()), memory={LAST_GRADIENT: problem.weights(1)})
    order = made.plan(state, [3], Key(0))[3]
    reply = made.train(problem.loss_of, order, [problem.batch(0)], 1).reply
    pool = gaussian(order.key.fold("step", 0), state.weights, 10)
    hint = problem.weights(1)
    flat = [torch.cat([v[n].flatten() for n in hint]) for v in pool]
    target = torch.cat([w.flatten() for w in hint.values()])
    best = max(flat, key=lambda v: float(torch.cosine_similarity(v, target, dim=0)))
    true = torch.cat([
        g.flatten() for g in problem.gradient(problem.ProblemLoss(problem.batch(0)), state.weights).values()
    ])
    assert reply.payload.slopes.item() == pytest.approx(float(best @ true), rel=1e-9)


@pytest.mark.parametrize("given", [{"threshold": 0.0}, {"devices": 0}, {"attempts": 0}])
def test_senseless_pacing_is_refused(given):
    with pytest.raises(ConfigError):
        Pacing(**given)


def test_steps_warm_up_and_decay_by_hand():
    """20 rounds, a tenth of them to warm up, each a step: 1/3, 2/3, 1, then 17/18, 16/18 and so on down."""
    made = METHODS.fwdllm(UNITS, rounds=20, server=sgd(1.0), threshold=1e9)
    state, moved = made.init(WEIGHTS), []
    for _ in range(5):
        before = state.weights["B"]
        _, state = attempt(made, state, {0: [1.0, 1.0], 1: [1.0, 1.0]})
        moved.append(float((before - state.weights["B"])[0]))
    assert moved == pytest.approx([1 / 3, 2 / 3, 1, 17 / 18, 16 / 18])
