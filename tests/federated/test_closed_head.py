"""The closed form: the posterior of normal classes with one covariance, whatever lies with whom, at any offset."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spry.core.errors import DataError
from spry.core.keys import Key
from spry.federated.closed_head.codec import decode_sums, encode_sums
from spry.federated.closed_head.moments import HeadMoments
from spry.federated.closed_head.projection import projection, summed_features
from spry.federated.closed_head.solve import solve
from spry.federated.closed_head.solve_labels import solve_labels
from spry.federated.closed_head.strengths import common_strength
from spry.federated.closed_head.sums import HeadSums, pooled

CLASSES, FEATURES = 3, 8


def examples(count=600, *, offset=0.0, seed=0):
    """Three normal classes, whose features vary and go together unevenly."""
    draw = np.random.default_rng(seed)
    labels = torch.from_numpy(draw.choice(CLASSES, size=count, p=[0.5, 0.3, 0.2]))
    mix = 2 * torch.eye(FEATURES) + torch.from_numpy(0.5 * draw.normal(size=(FEATURES, FEATURES)))
    centres = torch.from_numpy(draw.normal(size=(CLASSES, FEATURES)))
    noise = torch.from_numpy(draw.normal(size=(count, FEATURES)))
    return centres[labels] + noise @ mix + offset, labels


def sums_of(features, labels):
    return HeadSums.of(features, labels, CLASSES)


def sent(features, labels, client=0):
    """As the server gets them."""
    message = encode_sums(client, sums_of(features, labels))
    return decode_sums(message, client, classes=CLASSES, features=features.shape[1])


def together(parts):
    return pooled(parts, HeadSums.empty(CLASSES, FEATURES))


def scores(head, features):
    return (features @ head.weight.T + head.bias).softmax(1)


def test_scores_are_the_posteriors_of_normal_classes():
    """torch's own densities and priors, of the covariance with the strength on its diagonal."""
    features, labels = examples(2_000)
    means = torch.stack([features[labels == c].mean(0) for c in range(CLASSES)])
    covariance = torch.cov((features - means[labels]).T, correction=0)
    covariance += common_strength(sums_of(features, labels).moments()) * torch.eye(FEATURES)
    normal = torch.distributions.MultivariateNormal(means, covariance)
    prior = torch.bincount(labels) / len(labels)
    posterior = (normal.log_prob(features[:, None]) + prior.log()).softmax(1)
    head = solve(sums_of(features, labels))
    torch.testing.assert_close(scores(head, features), posterior, atol=1e-7, rtol=0)  # priors are float32


def test_the_sums_of_classes_are_moments_of_targets_that_are_1_for_the_own_class():
    features, labels = examples(offset=3.0)
    found = sums_of(features, labels).moments()
    expected = HeadMoments.of(features, torch.nn.functional.one_hot(labels, CLASSES), CLASSES)
    for part in ("mean", "target", "scatter", "cross", "squares"):
        torch.testing.assert_close(getattr(found, part), getattr(expected, part), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_two_classes_are_told_apart_as_one_label_is(bias):
    features, labels = examples(offset=3.0)
    features, labels = features[labels < 2], labels[labels < 2]
    two = solve(HeadSums.of(features, labels, 2), bias=bias)
    one = solve_labels(HeadMoments.of(features, labels, 1), bias=bias)
    torch.testing.assert_close(two.weight[1] - two.weight[0], one.weight[0], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(two.bias[1] - two.bias[0], one.bias[0], rtol=1e-6, atol=1e-9)


def test_the_strength_of_classes_makes_all_of_them_likeliest():
    """torch's own density of normal numbers, without the direction of their mean, summed over the classes."""
    count = 24
    features, labels = examples(count)
    found = common_strength(sums_of(features, labels).moments())
    basis = torch.linalg.qr(torch.cat([torch.ones(count, 1), torch.eye(count)[:, 1:]], 1).double())[0][:, 1:]
    x = basis.T @ features

    def likelihood(strength):
        shape = torch.eye(count - 1).double() + x @ x.T / (count * strength)
        total = 0.0
        for label in range(CLASSES):
            y = basis.T @ (labels == label).double()
            variance = y @ torch.linalg.solve(shape, y) / (count - 1)
            normal = torch.distributions.MultivariateNormal(torch.zeros(count - 1).double(), variance * shape)
            total += float(normal.log_prob(y))
        return total

    assert all(likelihood(found) >= likelihood(found * factor) for factor in (0.5, 0.8, 1.26, 2))


def test_classes_that_features_say_nothing_of_get_their_shares():
    draw = np.random.default_rng(3)
    features, fresh = (torch.from_numpy(draw.normal(size=(size, 20))) for size in (60, 500))
    labels = torch.from_numpy(draw.choice(CLASSES, size=60))
    shares = torch.bincount(labels) / 60
    assert (scores(solve(sums_of(features, labels)), fresh) - shares).abs().mean() < 0.1


def test_it_is_least_squares_onto_the_classes_up_to_scale_and_offset_for_two():
    """Fisher 1936, with numpy's own solver."""
    features, labels = examples(5_000)
    features, labels = features[labels < 2], labels[labels < 2]
    design = np.column_stack([features.numpy(), np.ones(len(features))])
    fitted = np.linalg.lstsq(design, labels.double().numpy(), rcond=None)[0][:-1]
    head = solve(HeadSums.of(features, labels, 2))
    ours = (head.weight[1] - head.weight[0]).numpy()
    cosine = ours @ fitted / np.linalg.norm(ours) / np.linalg.norm(fitted)
    assert cosine > 0.999


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("how", ["whole", "by one", "by class", "uneven", "backwards"])
def test_any_partition_in_any_order_gives_the_same_head(how, offset):
    features, labels = examples(offset=offset)
    places = torch.arange(len(labels))
    parts = {
        "whole": [places],
        "by one": places.split(1),
        "by class": [places[labels == c] for c in range(CLASSES)],
        "uneven": places.split([1, 2, 97, 200, 300]),
        "backwards": places.flip(0).split(50),
    }[how]
    head = solve(together(sent(features[p], labels[p], c) for c, p in enumerate(parts)))
    exact = solve(sums_of(features, labels))
    torch.testing.assert_close(head.weight, exact.weight, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(scores(head, features), scores(exact, features), atol=1e-4, rtol=0)
    assert torch.equal(scores(head, features).argmax(1), scores(exact, features).argmax(1))


def test_sums_of_batches_are_those_of_all_to_rounding():
    features, labels = examples()
    batches = [sums_of(f, y) for f, y in zip(features.split(7), labels.split(7), strict=True)]
    found, whole = together(batches), sums_of(features, labels)
    assert torch.equal(found.counts, whole.counts) and found.examples == 600
    torch.testing.assert_close(found.means, whole.means, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.scatter, whole.scatter, rtol=1e-10, atol=1e-10)
    residuals = features - whole.means[labels]
    np.testing.assert_allclose(whole.scatter, residuals.numpy().T @ residuals.numpy(), rtol=1e-10, atol=1e-9)


def test_nobody_without_examples_changes_anything():
    features, labels = examples()
    nothing = sums_of(features[:0], labels[:0])
    whole = sums_of(features, labels)
    for both in (whole.add(nothing), nothing.add(whole)):
        assert torch.equal(both.means, whole.means) and torch.equal(both.scatter, whole.scatter)


def test_a_class_that_nobody_has_is_refused_and_one_that_some_lack_is_not():
    features, labels = examples()
    few = labels != 1
    with pytest.raises(DataError, match=r"of 3 classes there are none of number 1\. Set head.start=drawn"):
        solve(sums_of(features[few], labels[few]))
    with pytest.raises(DataError, match="none of number 1, 2"):
        solve(sums_of(features[labels == 0], labels[labels == 0]))


def test_features_that_never_vary_and_fewer_examples_than_features_still_have_a_head():
    features, labels = examples(6, seed=4)
    labels = torch.arange(6) % CLASSES
    features[:, 3] = 5.0
    head = solve(sums_of(features, labels))
    assert torch.isfinite(head.weight).all() and torch.isfinite(head.bias).all()
    same = solve(sums_of(torch.ones(6, FEATURES), labels))
    torch.testing.assert_close(
        scores(same, torch.ones(1, FEATURES).double()), torch.full((1, 3), 1 / 3).double()
    )


def test_without_a_bias_a_constant_among_the_features_carries_it():
    features, labels = examples(5_000, offset=1.0)
    features[:, 0] = 2.0 + 1e-3 * features[:, 0]
    with_bias, without = (solve(sums_of(features, labels), bias=bias) for bias in (True, False))
    assert not without.bias.any()
    agree = scores(with_bias, features).argmax(1) == scores(without, features).argmax(1)
    assert agree.float().mean() > 0.99
    torch.testing.assert_close(scores(without, features), scores(with_bias, features), atol=0.05, rtol=0)


def test_wide_heads_are_fitted_on_random_combinations_that_both_sides_draw():
    assert [summed_features(*pair) for pair in ((1024, None), (1025, None), (64, 100), (64, 16))] == [
        1024, 1024, 64, 16,
    ]  # fmt: skip
    assert projection(Key(0), 64, 64) is None
    mixed = projection(Key(0), 4096, 256)
    assert mixed is not None and torch.equal(mixed, projection(Key(0), 4096, 256))
    draw = np.random.default_rng(0)
    labels = torch.from_numpy(draw.integers(0, 2, size=2_000))
    features = torch.from_numpy(draw.normal(size=(2_000, 4096)) * 0.1) + labels[:, None] * 0.02
    head = solve(HeadSums.of(features @ mixed.T, labels, 2))
    guessed = (features @ (head.weight @ mixed).T + head.bias).argmax(1)
    assert (guessed == labels).double().mean() > 0.9
