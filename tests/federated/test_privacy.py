"""Bounds and noise: what one client adds is at most the clip, and the noise is as large as is said."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest
from tests.laws import problem
from tests.laws.test_methods import make

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.params import dot
from spry.federated.privacy.bounds import Bounds
from spry.federated.privacy.gaussian import CentralNoise, LocalNoise
from spry.federated.summing import SLOPES, Enrolment, Summing
from spry.federated.transforms import Cohort
from spry.optim.rules import sgd
from spry.wire.messages import Answer, Gradient, Order, Reply, Slopes, Weights

CLIP = 0.25
ENROLLED = Enrolment(clients=tuple(range(9)), rate=1 / 3)
numbers = st.floats(-1e6, 1e6, width=32) | st.sampled_from([float("inf"), float("nan"), 1e30])
METHODS_THAT_SUM = ["fedavg", "fedavg, split", "fedsgd", "spry", "spry_per_iteration", "baffle", "residual"]


def private(name, noise=0.0, enrolled=ENROLLED, **given):
    slopes = name in {"spry_per_iteration", "baffle"}
    bounds = Bounds(dense=CLIP, slopes=CLIP if slopes else None)
    return make(
        name,
        transforms=[CentralNoise(bounds=bounds, noise=noise, key=Key(5))],
        summing=Summing(key=Key(0), enrolled=enrolled, shorten=bounds.shorten),
        max_steps=1,
        server=sgd(1.0),
        **given,
    )


def sum_of(algorithm, state, answers):
    """A round's gradient times the least number of owners to be expected: at least the sum that it came from."""
    after = algorithm.absorb(state, answers).weights
    return {name: state.weights[name] - after[name] for name in after}


def answers_of(algorithm, state, clients, scale=1.0):
    orders = algorithm.plan(state, clients, Key(0))
    return [
        Answer(o, algorithm.train(problem.loss_of, o, [problem.batch(c)], 3).reply) for c, o in orders.items()
    ]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(numbers, min_size=1, max_size=5),
    st.lists(numbers, min_size=1, max_size=5),
    st.floats(1e-3, 1e3),
)
def test_no_contribution_is_longer_than_its_bound(dense, slopes, norm):
    bounds = Bounds(dense=norm, slopes=2 * norm)
    found = bounds.shorten({"w": torch.tensor(dense), SLOPES + "w": torch.tensor([slopes])})
    assert float(found["w"].norm()) <= norm * (1 + 1e-9)
    assert float(found[SLOPES + "w"].norm()) <= 2 * norm * (1 + 1e-9)
    whole = sum(float((found[n] / bounds.sensitivity(n)).square().sum()) for n in found)
    assert whole <= 1 + 1e-9  # in the unit of the noise one client moves a sum by 1 at most


@pytest.mark.parametrize("name", METHODS_THAT_SUM)
@pytest.mark.parametrize("scale", [1.0, 1e4, float("nan")])
def test_any_one_client_moves_the_sum_by_the_clip_at_most(name, scale):
    """Whatever it sends: the server bounds it again."""
    algorithm = private(name)
    state = algorithm.init(problem.weights())
    *others, odd = answers_of(algorithm, state, [4, 0, 7])
    payload = odd.reply.payload
    if isinstance(payload, Slopes):
        sent = Slopes(payload.slopes * scale, {n: v * scale for n, v in payload.exact.items()})
    else:
        sent = type(payload)({n: v * scale for n, v in payload.values.items()})
    reply = Reply(round=0, client=7, examples=1, payload=sent, steps=1, loss=0.0)
    with_it = sum_of(algorithm, state, [*others, Answer(odd.order, reply)])
    without = sum_of(algorithm, state, others)
    least = min(len(ENROLLED.clients) // 3 if "split" in name or name == "spry" else 9, 9) * ENROLLED.rate
    moved = {n: (with_it[n] - without[n]) * least for n in with_it}
    if not isinstance(payload, Slopes):
        assert dot(moved, moved) ** 0.5 <= CLIP * (1 + 1e-6)
    else:  # the slopes' part goes along directions, whose lengths are public
        head = {n: v for n, v in moved.items() if n.startswith("head")}
        assert dot(head, head) ** 0.5 <= CLIP * (1 + 1e-6)


def test_whom_a_client_is_asked_with_changes_nothing_of_what_it_does():
    """Or the presence of one would move what others add."""
    algorithm = private("spry")
    state = algorithm.init(problem.weights())
    alone, among = (algorithm.plan(state, clients, Key(0))[4] for clients in ([4], [0, 4, 7]))
    assert alone.trained == among.trained and alone.key == among.key


def test_a_round_without_clients_is_noise_alone_on_every_weight():
    for name in ("fedavg", "spry", "spry_per_iteration"):
        algorithm = private(name, noise=1.0)
        state = algorithm.init(problem.weights())
        moved = sum_of(algorithm, state, [])
        assert all(bool(value.any()) for value in moved.values()), name


def test_slopes_of_all_clients_are_measured_along_the_same_directions_and_summed():
    algorithm = private("spry_per_iteration", num_directions=4, split="everything")
    state = algorithm.init(problem.weights())
    answers = answers_of(algorithm, state, [4, 0, 7])
    assert len({answer.order.key for answer in answers}) == 1
    plain = make("spry_per_iteration", num_directions=4, split="everything", server=sgd(1.0))
    equal = [Answer(o, Reply(**{**vars(r), "examples": 1})) for o, r in answers]
    after = algorithm.absorb(state, answers).weights
    for name, wanted in plain.absorb(plain.init(problem.weights()), equal).weights.items():
        torch.testing.assert_close(after[name], wanted)  # nine times a third are the three that came


def test_central_noise_has_the_scale_and_the_law_that_are_said():
    bounds = Bounds(dense=0.5, slopes=2.0)
    noise = CentralNoise(bounds=bounds, noise=1.5, key=Key(1))
    zeros = {"w": torch.zeros(100, 200), SLOPES + "v": torch.zeros(1, 20_000)}
    found = noise.server(zeros, Cohort(0, 5, 5))
    for name, norm in (("w", 0.5), (SLOPES + "v", 2.0)):
        scale = 1.5 * 2**0.5 * norm  # two groups, each of which a client may fill
        assert kstest(found[name].flatten().numpy() / scale, "norm").pvalue > 1e-3
    again = noise.server(zeros, Cohort(1, 5, 5))
    assert abs(torch.corrcoef(torch.stack([found["w"].flatten(), again["w"].flatten()]))[0, 1]) < 0.03


@pytest.mark.parametrize("kind", ["weights", "gradient", "slopes"])
def test_local_noise_is_on_what_each_client_sends(kind):
    size, start = 40_000, torch.full((40_000,), 3.0, dtype=torch.float64)
    sent = {
        "weights": Weights({"w": start.clone()}),
        "gradient": Gradient({"w": start * 0}),
        "slopes": Slopes(torch.zeros(1, size, dtype=torch.float64)),
    }[kind]
    bounds = Bounds(slopes=0.5) if kind == "slopes" else Bounds(dense=0.5)
    local = LocalNoise(bounds=bounds, noise=2.0, key=Key(1))
    noises = []
    for client in (0, 1):
        order = Order(round=0, client=client, weights={"w": start}, trained=("w",), key=Key(0))
        payload = local.client(sent, order)
        value = payload.slopes[0] if isinstance(payload, Slopes) else payload.values["w"]
        noises.append(value - (start if kind == "weights" else 0))
        assert kstest(noises[-1].numpy() / (2 * 2.0 * 0.5), "norm").pvalue > 1e-3
    assert abs(torch.corrcoef(torch.stack(noises))[0, 1]) < 0.03


def test_clients_that_keep_their_loss_send_none():
    algorithm = make("fedavg", summing=Summing(key=Key(0), tells_loss=False))
    state = algorithm.init(problem.weights())
    assert all(reply.loss == 0 and reply.examples == 1 for _, reply in answers_of(algorithm, state, [1]))


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("fwdllm", {}, "fwdllm needs more of replies than their sum.*fedavg"),
        ("spry", {"send": "slopes"}, "method.send = 'weights'"),
        ("spry_per_iteration", {}, "client.steps=1"),
    ],
)
def test_what_cannot_be_summed_is_refused(name, given, told):
    with pytest.raises(ConfigError, match=told):
        make(name, summing=Summing(key=Key(0)), **given)


@pytest.mark.parametrize("norm", [0.0, -1.0, float("nan")])
def test_a_bound_that_is_not_positive_is_refused(norm):
    with pytest.raises(ConfigError, match=r"privacy\.clip"):
        Bounds(dense=norm)
