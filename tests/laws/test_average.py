"""The running mean of the server's weights: the mean by hand, for every method, and training as without it."""

from __future__ import annotations

import pytest
import torch

from spry.core.errors import ConfigError
from spry.experiment import checkpoint
from spry.federated.ema import AVERAGE, averaged, delivered
from tests.laws import problem
from tests.laws.test_methods import VARIANTS, make, run

ROUNDS, GIVEN = 5, {"rounds": 20}


@pytest.mark.parametrize("decay", [0.5, 0.9])
@pytest.mark.parametrize("name", VARIANTS)
def test_it_is_the_weighted_mean_of_past_rounds_and_training_is_the_same(name, decay):
    states = [run(name, rounds=t + 1, given=GIVEN)[0] for t in range(ROUNDS)]
    found = run(name, rounds=ROUNDS, given=GIVEN, decay=decay)[0]
    parts = torch.tensor([decay ** (ROUNDS - 1 - t) for t in range(ROUNDS)], dtype=torch.float64)
    for n, weight in found.weights.items():
        assert torch.equal(weight, states[-1].weights[n])
        by_hand = torch.einsum(
            "t,t...->...", parts / parts.sum(), torch.stack([s.weights[n] for s in states])
        )
        torch.testing.assert_close(delivered(found)[n], by_hand, rtol=1e-12, atol=1e-14)
    rest = {slot: held for slot, held in found.memory.items() if slot != AVERAGE}
    assert rest.keys() == states[-1].memory.keys()


@pytest.mark.parametrize("name", VARIANTS)
def test_it_goes_on_from_a_checkpoint(name, tmp_path):
    whole = run(name, rounds=ROUNDS, given=GIVEN, decay=0.75)[0]
    checkpoint.write_checkpoint(run(name, rounds=2, given=GIVEN, decay=0.75)[0], tmp_path)
    fresh = averaged(make(name, **GIVEN), 0.75).init(problem.weights())
    half = checkpoint.read_checkpoint(tmp_path, fresh)
    rest = run(name, rounds=ROUNDS, given=GIVEN, decay=0.75, state=half)[0]
    assert all(torch.equal(w, delivered(rest)[n]) for n, w in delivered(whole).items())


def test_without_it_the_last_weights_are_delivered():
    state = run("spry", rounds=2)[0]
    assert all(delivered(state)[n] is w for n, w in state.weights.items())
    sent = {n: w + 1 for n, w in state.weights.items()}
    assert all(delivered(state, sent)[n] is w for n, w in sent.items())


def test_before_the_first_round_the_start_is_delivered():
    state = averaged(make("spry", **GIVEN), 0.75).init(problem.weights())
    assert all(delivered(state)[n] is w for n, w in state.weights.items())


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ConfigError, match=r"server\.ema"):
        averaged(make("spry", **GIVEN), decay)
