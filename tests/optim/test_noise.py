"""Rules for noisy gradients: by hand, at their limits, and on noise that is known."""

from __future__ import annotations

import pytest
import torch

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.params import add
from spry.optim.noise import guard, svag
from spry.optim.rules import sgd
from spry.optim.transform import chain


def steps(rule, gradients):
    w = {"a": torch.zeros_like(gradients[0])}
    state, found = rule.init(w), []
    for g in gradients:
        updates, state = rule.update({"a": g}, state, w)
        found.append(updates["a"])
    return found


def scalars(*values):
    return [torch.tensor(float(v), dtype=torch.float64) for v in values]


def test_gradients_that_agree_are_followed_at_full_length():
    for update in steps(svag(0.5), scalars(3, 3, 3, 3)):
        assert update.item() == pytest.approx(-1.5)


def test_two_steps_by_hand():
    """beta = 0.5: m = 1 and v = 1.5, both over 3/4, are 4/3 and 2; rho = 5/9, so s = 5/9 (2 - 16/9) / (4/9)."""
    _, second = steps(svag(1.0, beta=0.5), scalars(2, 1))
    mean, square = (0.5 * 1 + 0.5 * 1) / 0.75, (0.5 * 2 + 0.5 * 1) / 0.75
    rho = 0.5 * 1.25 / (1.5 * 0.75)
    noise = rho * (square - mean**2) / (1 - rho)
    assert second.item() == pytest.approx(-mean * mean**2 / (mean**2 + noise))


def test_noise_is_stepped_along_less_than_signal():
    """Two weights with the same mean square: one has it as mean, one as noise."""
    draws = [torch.stack([torch.tensor(1.0), Key(i).normal("g", ())]) for i in range(400)]
    walked = torch.stack(steps(svag(1.0), draws))[20:]
    plain = torch.stack(steps(sgd(0.1, 0.9), draws))[20:]
    assert (walked[:, 0] + 1).abs().max() < 1e-3
    assert walked[:, 1].square().mean() < 0.5 * plain[:, 1].square().mean()


def test_nothing_found_nothing_done():
    assert all(update.item() == 0 for update in steps(svag(1.0), scalars(0, 0)))


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_the_guard_leaves_out_what_is_not_finite(bad):
    found = steps(guard(2.0, window=3), scalars(1, bad, 100, 2))
    assert [x.item() for x in found] == pytest.approx([1, 0, 2, 2])


def test_the_guard_by_hand():
    """Norms 1, 2, 100, 2: the lower medians of the last three are 1, 1, 2, 2, so 100 is cut to 2 x 2."""
    found = steps(guard(2.0, window=3), scalars(1, -2, 100, 2))
    assert [x.item() for x in found] == pytest.approx([1, -2, 4, 2])


def test_the_guard_keeps_directions_and_forgets_outliers():
    calm = [Key(i).normal("g", (4, 5)) for i in range(40)]
    wild = [*calm[:20], 1e4 * calm[20], *calm[21:]]
    found = steps(guard(5.0), wild)
    assert all(torch.equal(found[i], wild[i]) for i in range(40) if i != 20)
    torch.testing.assert_close(found[20] / found[20].norm(), calm[20] / calm[20].norm())
    assert found[20].norm() < 5 * 1.5 * torch.stack([g.norm() for g in calm]).median()


def test_the_guard_lets_a_run_survive_a_broken_slope():
    w = {"a": torch.full((3,), 5.0)}
    ends = {}
    for name, rule in (("plain", sgd(0.1)), ("guarded", chain(guard(3.0), sgd(0.1)))):
        here, state = w, rule.init(w)
        for i in range(60):
            g = {"a": here["a"] + 0.1 * Key(i).normal("g", (3,)) + (1e5 if i == 30 else 0.0)}
            updates, state = rule.update(g, state, here)
            here = add(here, updates)
        ends[name] = float(here["a"].norm())
    assert ends["guarded"] < 1
    assert ends["plain"] > 100


@pytest.mark.parametrize("make", [lambda: guard(0.5), lambda: guard(2.0, 0), lambda: svag(0.1, beta=1.0)])
def test_senseless_settings_are_refused(make):
    with pytest.raises(ConfigError):
        make()
