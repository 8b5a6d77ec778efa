"""What rounds cost of privacy, against the accountants of dp-accounting, which compose other ways."""

from __future__ import annotations

import math

import pytest
from dp_accounting import GaussianDpEvent, NeighboringRelation, PoissonSampledDpEvent, SelfComposedDpEvent
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from scipy.stats import norm

from spry.core.errors import ConfigError, PrivacyError
from spry.federated.privacy import accounting
from spry.federated.privacy.accounting import Spending, calibrated, spent

RELATION = NeighboringRelation.ADD_OR_REMOVE_ONE


@pytest.mark.parametrize(("noise", "rate", "rounds"), [(1.0, 0.1, 30), (0.6, 0.01, 100), (3.0, 1.0, 10)])
def test_epsilon_is_the_library_s_own_and_below_the_moments_accountant_s(noise, rate, rounds):
    event = SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(noise)), rounds)
    found = spent(noise, rate, rounds, None, 1e-5)
    assert found == pytest.approx(PLDAccountant(RELATION, 1e-3).compose(event).get_epsilon(1e-5), rel=5e-3)
    assert found <= RdpAccountant().compose(event).get_epsilon(1e-5) * 1.001


@pytest.mark.parametrize("noise", [0.5, 1.0, 4.0])
def test_one_release_has_the_delta_of_the_exact_formula(noise):
    """``delta(eps) = P(1/2z - eps z) - e^eps P(-1/2z - eps z)`` (Balle & Wang 2018), by scipy's normal distribution."""
    epsilon = spent(noise, 1.0, 1, None, 1e-5)
    below = norm.cdf(1 / (2 * noise) - epsilon * noise)
    exact = below - math.exp(epsilon) * norm.cdf(-1 / (2 * noise) - epsilon * noise)
    assert 0.95e-5 < exact <= 1e-5  # never more than is said


@pytest.mark.parametrize("noise", [0.7, 1.0])
def test_a_release_before_the_first_round_counts(noise):
    event = SelfComposedDpEvent(PoissonSampledDpEvent(0.1, GaussianDpEvent(noise)), 5)
    library = PLDAccountant(RELATION, 1e-3).compose(event).compose(GaussianDpEvent(4.0)).get_epsilon(1e-5)
    assert spent(noise, 0.1, 5, 4.0, 1e-5) == pytest.approx(library, rel=5e-3)
    assert spent(1.0, 0.1, 0, None, 1e-5) == 0


def test_without_noise_nothing_is_kept():
    assert spent(0.0, 0.1, 1, None, 1e-5) == math.inf
    assert Spending(delta=1e-5, noise=0.0).epsilon(0) == 0


@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_calibrated_noise_spends_the_budget_and_no_more(epsilon):
    noise = calibrated(lambda z: spent(z, 0.1, 20, None, 1e-5), epsilon)
    assert 0.99 * epsilon < spent(noise, 0.1, 20, None, 1e-5) <= epsilon


def test_a_round_beyond_the_budget_is_refused():
    spending = Spending(delta=1e-5, noise=1.0, rate=0.1, budget=spent(1.0, 0.1, 7, None, 1e-5))
    spending.check(7)
    with pytest.raises(PrivacyError, match=r"round 8 would bring epsilon from .* Keep the 7 rounds"):
        spending.check(8)
    assert [spending.affordable(rounds) for rounds in (3, 7, 40)] == [3, 7, 7]
    assert Spending(delta=1e-5, noise=0.0).affordable(40) == 40


def test_who_takes_part_seldom_spends_for_that_only():
    spending = Spending(delta=1e-5, noise=2.0, releases=(0, 1, 1, 2))
    assert spending.epsilon(2) == spent(2.0, 1.0, 1, None, 1e-5) < spending.epsilon(3)


def test_the_library_is_asked_for_where_it_is_missing(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(accounting.importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=r"spry-fl\[privacy\]"):
        accounting.distributions()
