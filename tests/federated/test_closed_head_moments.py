"""Heads for numbers and labels in closed form: ridge regression and one analysis a label, whatever lies with whom."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spry.federated.closed_head.moments import HeadMoments
from spry.federated.closed_head.moments_codec import decode_moments, encode_moments
from spry.federated.closed_head.solve import solve
from spry.federated.closed_head.solve_labels import solve_labels, with_and_without
from spry.federated.closed_head.solve_numbers import ridge, solve_numbers
from spry.federated.closed_head.strengths import strengths
from spry.federated.closed_head.sums import HeadSums
from spry.measure.meter import peak_of

FEATURES, LABELS = 6, 3
SOLVERS = {"numbers": solve_numbers, "labels": solve_labels}


def examples(what="numbers", count=200, *, offset=0.0, seed=0):
    """Features that vary and go together unevenly, and what follows from them with some noise."""
    draw = np.random.default_rng(seed)
    mix = 2 * np.eye(FEATURES) + 0.5 * draw.normal(size=(FEATURES, FEATURES))
    features = draw.normal(size=(count, FEATURES)) @ mix
    targets = features @ draw.normal(size=(FEATURES, LABELS)) + draw.normal(size=(count, LABELS))
    targets = targets[:, :1] + 7 if what == "numbers" else (targets > [0, 2, 4]).astype(np.int8)
    return torch.from_numpy(features + offset), torch.from_numpy(targets)


def moments(features, targets):
    return HeadMoments.of(features, targets, targets.shape[1])


def sent(features, targets, *, labels=False, client=0):
    """As the server gets them."""
    message = encode_moments(client, moments(features, targets))
    return decode_moments(
        message, client, targets=targets.shape[1], features=features.shape[1], labels=labels
    )


def together(parts, targets):
    total = HeadMoments.empty(targets, FEATURES)
    for part in parts:
        total = total.add(part)
    return total


def said(head, features):
    return features @ head.weight.T + head.bias


def least_squares(features, numbers, strength=0.0):
    """numpy's own solver, which is given the strength as more rows, of which the bias has no part."""
    design = np.column_stack([features.numpy(), np.ones(len(features))])
    more = (strength * len(features)) ** 0.5 * np.eye(FEATURES, FEATURES + 1)
    rows, wanted = np.vstack([design, more]), np.concatenate([numbers.numpy(), np.zeros(FEATURES)])
    *weight, bias = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    return weight, bias


def test_without_strength_it_is_least_squares():
    features, numbers = examples(offset=10.0)
    head = ridge(moments(features, numbers), torch.zeros(1).double())
    weight, bias = least_squares(features, numbers[:, 0])
    np.testing.assert_allclose(head.weight[0], weight, rtol=1e-9)
    np.testing.assert_allclose(head.bias[0], bias, rtol=1e-9)


def test_with_strengths_it_is_ridge_regression_of_each_target():
    features, _ = examples()
    numbers = torch.from_numpy(np.random.default_rng(1).normal(size=(200, 2))) + features[:, :2]
    head = ridge(moments(features, numbers), torch.tensor([0.5, 3.0]).double())
    for target, strength in enumerate([0.5, 3.0]):
        weight, bias = least_squares(features, numbers[:, target], strength)
        np.testing.assert_allclose(head.weight[target], weight, rtol=1e-9)
        np.testing.assert_allclose(head.bias[target], bias, rtol=1e-9)


@pytest.mark.parametrize("count", [12, 30])
def test_the_strength_makes_the_numbers_likeliest(count):
    """torch's own density of normal numbers, without the direction of their mean."""
    features, numbers = examples(count=count)
    found = strengths(moments(features, numbers))[0]
    basis = torch.linalg.qr(torch.cat([torch.ones(count, 1), torch.eye(count)[:, 1:]], 1).double())[0][:, 1:]
    x, y = basis.T @ features, basis.T @ numbers[:, 0]

    def likelihood(strength):
        shape = torch.eye(count - 1).double() + x @ x.T / (count * strength)
        variance = y @ torch.linalg.solve(shape, y) / (count - 1)
        normal = torch.distributions.MultivariateNormal(torch.zeros(count - 1).double(), variance * shape)
        return float(normal.log_prob(y))

    assert all(likelihood(found) >= likelihood(found * factor) for factor in (0.5, 0.8, 1.26, 2))


@pytest.mark.parametrize("count", [5, 30, 300])
def test_numbers_that_features_say_nothing_of_get_their_mean(count):
    draw = np.random.default_rng(3)
    features, numbers = (torch.from_numpy(draw.normal(size=(count, size))) for size in (20, 1))
    fresh = torch.from_numpy(draw.normal(size=(500, 20)))
    head = solve_numbers(moments(features, numbers))
    assert (said(head, fresh) - numbers.mean()).abs().mean() < 0.35


def test_a_label_is_told_from_the_rest_as_two_classes_are():
    features, labels = examples("labels", offset=3.0)
    head = solve_labels(moments(features, labels))
    for label in range(LABELS):
        two = HeadSums.of(features, labels[:, label].long(), 2)
        got = with_and_without(moments(features, labels), label)
        assert torch.equal(got.counts, two.counts)
        torch.testing.assert_close(got.means, two.means)
        torch.testing.assert_close(got.scatter, two.scatter)
        strength = float(strengths(moments(features, labels))[label])
        expected = said(solve(two, strength=strength), features)
        torch.testing.assert_close(said(head, features)[:, label], expected[:, 1] - expected[:, 0])


def test_scores_are_the_log_odds_of_normal_examples_with_and_without_a_label():
    """torch's own densities, of the covariance with the strength on its diagonal."""
    features, labels = examples("labels")
    sums, there = moments(features, labels), labels[:, 1].bool()
    means = torch.stack([features[~there].mean(0), features[there].mean(0)])
    covariance = torch.cov((features - means[there.long()]).T, correction=0)
    covariance = covariance + strengths(sums)[1] * torch.eye(FEATURES).double()
    normal = torch.distributions.MultivariateNormal(means, covariance)
    density = normal.log_prob(features[:, None])
    odds = density[:, 1] - density[:, 0] + torch.logit(there.double().mean())
    torch.testing.assert_close(said(solve_labels(sums), features)[:, 1], odds)


@pytest.mark.parametrize("count", [60, 300])
def test_labels_that_features_say_nothing_of_get_their_odds(count):
    draw = np.random.default_rng(3)
    features = torch.from_numpy(draw.normal(size=(count, 20)))
    labels = torch.from_numpy((draw.random((count, 1)) < 0.4).astype(np.int8))
    head, odds = solve_labels(moments(features, labels)), torch.logit(labels.double().mean())
    fresh = torch.from_numpy(draw.normal(size=(500, 20)))
    assert (said(head, fresh) - odds).abs().mean() < 0.5


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("how", ["whole", "by one", "by number", "uneven", "backwards"])
@pytest.mark.parametrize("what", SOLVERS)
def test_any_partition_in_any_order_gives_the_same_head(what, how, offset):
    features, targets = examples(what, offset=offset)
    places = torch.arange(len(targets))
    parts = {
        "whole": [places],
        "by one": places.split(1),
        "by number": targets[:, 0].argsort().split(40),
        "uneven": places.split([1, 2, 97, 100]),
        "backwards": places.flip(0).split(50),
    }[how]
    sums = [sent(features[p], targets[p], labels=what == "labels", client=c) for c, p in enumerate(parts)]
    found, exact = together(sums, targets.shape[1]), moments(features, targets)
    assert found.examples == 200 and torch.equal(found.counts, exact.counts)
    heads = [SOLVERS[what](sums) for sums in (found, exact)]
    torch.testing.assert_close(*(said(head, features) for head in heads), atol=1e-4, rtol=1e-4)


def test_nobody_without_examples_changes_anything():
    features, numbers = examples()
    whole, nothing = moments(features, numbers), moments(features[:0], numbers[:0])
    for both in (whole.add(nothing), nothing.add(whole)):
        assert both.examples == 200 and torch.equal(both.mean, whole.mean)
        assert torch.equal(both.scatter, whole.scatter) and torch.equal(both.cross, whole.cross)


@pytest.mark.parametrize("count", [1, 2, 50])
def test_numbers_that_never_vary_are_the_bias(count):
    features, numbers = examples(count=count)
    head = solve_numbers(sent(features, torch.full_like(numbers, 0.1)))
    torch.testing.assert_close(said(head, features), torch.full_like(numbers, 0.1))
    assert head.weight.abs().max() < 1e-12


def test_labels_that_all_have_or_none_are_told_by_the_bias_alone():
    features, labels = examples("labels")
    labels[:, 0], labels[:, 2] = 0, 1
    head = solve_labels(sent(features, labels, labels=True))
    assert not head.weight[[0, 2]].any() and head.weight[1].any()
    odds = torch.tensor(0.5 / 200.5).double().log()
    torch.testing.assert_close(head.bias[[0, 2]], torch.stack([odds, -odds]))


@pytest.mark.parametrize("what", SOLVERS)
def test_one_example_and_features_that_never_vary_still_have_a_head(what):
    features, targets = examples(what)
    same = torch.ones_like(features)
    for x, y in ((features[:1], targets[:1]), (same, targets), (features[:3], targets[:3])):
        head = SOLVERS[what](sent(x, y, labels=what == "labels"))
        assert torch.isfinite(head.weight).all() and torch.isfinite(head.bias).all()
    if what == "numbers":
        expected = targets.mean().expand(200, 1)
        torch.testing.assert_close(said(solve_numbers(sent(same, targets)), same), expected)


@pytest.mark.parametrize("what", SOLVERS)
def test_without_a_bias_a_constant_among_the_features_carries_it(what):
    features, targets = examples(what, 2_000, offset=1.0)
    features[:, 0] = 2.0 + 1e-3 * features[:, 0]
    sums = moments(features, targets)
    with_bias, without = (SOLVERS[what](sums, bias=bias) for bias in (True, False))
    assert not without.bias.any()
    torch.testing.assert_close(
        said(without, features), said(with_bias, features), atol=0.3 if what == "numbers" else 1.0, rtol=0.02
    )


def test_choosing_the_strength_holds_no_array_of_targets_by_strengths_by_features():
    features, targets, strengths_tried = 40, 300, 101
    sums = HeadMoments.of(torch.randn(500, features), torch.randn(500, targets), targets)
    peak = peak_of(lambda: strengths(sums), "cpu")
    assert peak < 8 * targets * strengths_tried * features / 4
