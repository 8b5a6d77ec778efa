"""A head from noised sums: what an example or client adds, the law of the noise, and the exact head without it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.federated.closed_head.fits import CLASS_HEAD
from spry.federated.privacy.head_sums import HeadNoise, RawSums, private_class_head

C, D = 3, 4


def noise(**given):
    return HeadNoise(**{"norm": 1.0, "examples": 1, "by_client": False, "noise": 0.0, "key": Key(0), **given})


def rows(number, seed=0, scale=1.0):
    key = Key(seed)
    features = scale * key.normal("x", (number, D)).double()
    return features, torch.tensor(key.generator("y").integers(0, C, number))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(0, 999), st.floats(1e-2, 1e3), st.floats(1e-2, 1e2))
def test_an_example_adds_no_more_than_its_bound(number, seed, scale, norm):
    head = noise(norm=norm)
    x, y = rows(number, seed, scale)
    whole, fewer = head.of(x, y, C), head.of(x[1:], y[1:], C)
    assert head.length(whole.add(fewer.scaled(-1))) <= head.bound * (1 + 1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(0, 999), st.integers(1, 10))
def test_a_client_adds_no_more_than_its_bound(number, seed, examples):
    head = noise(examples=examples, by_client=True)
    found = head.shorten(head.of(*rows(number, seed, 5.0), C))
    assert head.length(found) <= head.bound * (1 + 1e-9)
    if number <= examples:
        whole = torch.bincount(rows(number, seed)[1], minlength=C).double()
        torch.testing.assert_close(found.counts, whole)  # up to rounding of the length


def test_features_that_are_not_finite_add_nothing():
    x, y = rows(5)
    x[2, 1] = float("nan")
    found = noise().of(x, y, C)
    kept = [0, 1, 3, 4]
    torch.testing.assert_close(found.products, noise().of(x[kept], y[kept], C).products)


def test_noise_has_the_scale_and_the_law_that_are_said():
    head = noise(norm=2.0, examples=5, by_client=True, noise=0.7)
    empty = RawSums.empty(200, 200)
    found = head.noised(empty)
    scale = 0.7 * 3**0.5 * 5
    assert torch.equal(found.products, found.products.T)
    upper = found.products[torch.triu_indices(200, 200, 1).unbind()]
    for values, size in (
        (found.counts, 1.0),
        (found.sums, 2.0),
        (found.products.diagonal(), 4.0),
        (upper, 4.0 / 2**0.5),
    ):
        assert kstest(values.flatten().numpy() / (scale * size), "norm").pvalue > 1e-3


@pytest.mark.parametrize("bias", [True, False])
def test_without_noise_it_is_the_exact_head_through_the_same_messages(bias):
    x, y = rows(300, scale=0.1)
    private, exact = private_class_head(noise()), CLASS_HEAD
    found = []
    for solver in (private, exact):
        total = solver.empty(C, D)
        for client, part in enumerate((slice(0, 100), slice(100, 300))):
            message = solver.encode(client, solver.of(x[part], y[part], C))
            total = total.add(solver.decode(message, client, C, D))
        assert solver.enough(total) and total.examples == 300
        found.append(solver.solve(total, bias))
    torch.testing.assert_close(found[0].weight, found[1].weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[0].bias, found[1].bias, rtol=1e-4, atol=1e-5)


def test_much_noise_still_gives_a_head():
    x, y = rows(50)
    head = noise(noise=100.0)
    solved = head.solve(head.of(x, y, C), True)
    assert bool(torch.isfinite(solved.weight).all()) and bool(torch.isfinite(solved.bias).all())


def test_a_norm_that_is_not_positive_is_refused():
    with pytest.raises(ConfigError, match=r"privacy\.head_clip"):
        noise(norm=0.0)
