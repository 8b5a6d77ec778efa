"""Credit by position: unbiased, with the error that theory predicts, and never for a model that is not causal."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from tests.estimators import causal
from tests.estimators.causal import CausalLmLoss, SharedLoss, texts
from tests.estimators.test_activation import flat, measurement
from tests.estimators.tokens import TokenLoss

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.estimators import activation as module
from spry.estimators.activation import activation
from spry.estimators.credit import credit, cut
from spry.estimators.directions import gaussian, rademacher
from spry.forward.loss import CausalLoss
from spry.forward.tap import tapped
from spry.tasks.classification import ClassificationLoss

DRAWS = 100


def drawn(estimate, loss, w, draws=DRAWS):
    return torch.stack([flat(estimate(loss, w, Key(i)).gradient) for i in range(draws)])


def largest_z(found, true):
    """On random projections too, whose z-values the many entries of single weights would drown."""
    looks = torch.stack([true, *(Key(1).normal(f"{i}", (len(true),)).double() for i in range(4))])
    seen, wanted = found @ looks.T, looks @ true
    return float(
        ((seen.mean(0) - wanted) / (seen.std(0) / math.sqrt(len(found))).clamp_min(1e-12)).abs().max()
    )


def observed(loss, w):
    """What autograd knows: each map's inputs (B, T, D), and the gradients (B, T, R) of some losses by its outputs."""
    inputs, outputs, linear = {}, {}, F.linear
    leaves = {n: v.clone().requires_grad_() for n, v in w.items()}
    names = {id(leaf): name for name, leaf in leaves.items()}

    def spy(x, weight, bias=None):
        z = linear(x, weight, bias)
        if id(weight) in names:
            inputs[names[id(weight)]], outputs[names[id(weight)]] = x.detach(), z
        return z

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "linear", spy)
        losses = loss.tokens(leaves)

    def gradients(selected):
        kept = loss.mask.double().unsqueeze(-1)
        found = torch.autograd.grad(selected.sum(), list(outputs.values()), retain_graph=True)
        return {n: g * kept for n, g in zip(outputs, found, strict=True)}

    kept = loss.mask.double().unsqueeze(-1)
    return {n: x * kept for n, x in inputs.items()}, losses, gradients


def predicted(loss, w, segments, count):
    """``E|g - dL/dA|^2`` of gaussian directions, summed over the taps."""
    inputs, losses, gradients = observed(loss, w)
    starts = cut(loss.mask.shape[1], segments)
    ends = [*starts[1:], loss.mask.shape[1]]
    g = [gradients(losses[:, start:]) for start in starts]
    energies = [sum(x.square().sum((1, 2)) for x in part.values()) for part in g]
    total = 0.0
    for name, x in inputs.items():
        own = [
            [part[name][:, a:b].transpose(1, 2) @ x[:, a:b] for a, b in zip(starts, ends, strict=True)]
            for part in g
        ]
        for c, (a, b) in enumerate(zip(starts, ends, strict=True)):
            total += (len(w[name]) * energies[c] * x[:, a:b].square().sum((1, 2))).sum()
            total += sum((own[c][d] * own[d][c]).sum() for d in range(len(starts)))
    return float(total.detach()) / (len(loss.ids) ** 2 * count)


@pytest.mark.parametrize(
    ("kind", "segments", "left"), [("gpt2", 2, False), ("gpt2", 6, True), ("llama", 3, False)]
)
def test_mean_is_the_gradient_and_error_is_as_predicted(kind, segments, left):
    loss, w = texts(kind, [6, 3, 5], left=left), causal.weights(kind)
    true = flat(causal.gradient(loss, w))
    found = drawn(activation(measurement(gaussian), 2, segments=segments), loss, w)
    assert largest_z(found, true) < 4.5
    errors = (found - true).square().sum(1)
    wanted = predicted(loss, w, segments, 2)
    assert abs(errors.mean() - wanted) < 4.5 * errors.std() / math.sqrt(len(errors))


def test_credit_errs_less_than_a_shared_slope():
    loss, w = texts("gpt2", [8, 8, 6, 8]), causal.weights("gpt2")
    true = flat(causal.gradient(loss, w))
    shared, some, each = (
        (drawn(activation(measurement(), segments=c), loss, w) - true).square().sum(1).mean()
        for c in (1, 2, 8)
    )
    assert each < some < shared
    assert each < 0.7 * shared
    assert predicted(loss, w, 8, 1) < predicted(loss, w, 2, 1) < predicted(loss, w, 1, 1)


@pytest.mark.parametrize("kind", causal.SIZES)
@pytest.mark.parametrize("left", [False, True])
def test_a_token_moves_its_own_and_later_losses_alone(kind, left):
    loss, w = texts(kind, [5, 4], left=left), causal.weights(kind)
    _, losses, gradients = observed(loss, w)
    own = [gradients(losses[:, t]) for t in range(5)]
    noises = {}

    def noise(name, call, like):
        whole = Key(3).normal(name, tuple(like.shape), like=like)
        noises[name] = [whole * (torch.arange(5) == t).unsqueeze(-1) for t in range(5)]
        return noises[name]

    slopes = tapped(loss.tokens, {}, w, [{}] * 5, noise, loss.mask).slopes
    wanted = torch.stack([
        torch.stack([sum((own[t][n] * noises[n][k]).sum((1, 2)) for n in w) for t in range(5)], 1)
        for k in range(5)
    ])
    torch.testing.assert_close(slopes, wanted, rtol=1e-5, atol=1e-6)  # llama's norms compute in float32
    before = torch.arange(5) < torch.arange(5).unsqueeze(1)
    assert not slopes.transpose(0, 1)[:, before].any()
    reads = loss.tokens(w) > 0
    assert (slopes.diagonal(dim1=0, dim2=2)[reads] != 0).all()


def test_starts_and_sums():
    assert cut(8, 3) == [0, 2, 5]
    assert cut(3, 8) == [0, 1, 2]
    assert cut(1, 1) == [0]
    slopes = torch.tensor([[[1.0, 10.0, 100.0, 1000.0]]])
    assert credit(slopes, [0, 1, 3]).tolist() == [[[1111.0, 1110.0, 1000.0]]]


def test_credit_from_the_next_position_on_would_be_biased(monkeypatch):
    monkeypatch.setattr(module, "credit", lambda s, starts: credit(s, [0, *(t + 1 for t in starts[1:])]))
    loss, w = texts("gpt2", [6, 3, 5]), causal.weights("gpt2")
    found = drawn(activation(measurement(), 8, segments=6), loss, w)
    assert largest_z(found, flat(causal.gradient(loss, w))) > 6


@pytest.mark.parametrize("directions", [gaussian, rademacher])
def test_one_segment_is_the_shared_slope_and_only_causal_losses_have_more(directions):
    loss, w = texts("gpt2", [6, 3, 5]), causal.weights("gpt2")
    shared = SharedLoss(loss.kind, loss.ids, loss.mask)
    wanted = activation(measurement(directions), 2)(shared, w, Key(0))
    one = activation(measurement(directions), 2, segments=1)(loss, w, Key(0))
    assert all(torch.equal(one.gradient[n], wanted.gradient[n]) for n in w)
    assert one.value == wanted.value
    many = activation(measurement(directions), 2)(loss, w, Key(0))
    assert not torch.equal(flat(many.gradient), flat(wanted.gradient))


def test_who_is_causal():
    assert isinstance(texts("gpt2", [2]), CausalLoss)
    assert not isinstance(TokenLoss.make(), CausalLoss)
    assert not hasattr(ClassificationLoss, "tokens")


HOSTILE = [[1], [2], [1, 1], [6], [1, 6], [2, 1, 2]]


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("lengths", HOSTILE)
def test_unbiased_in_hostile_shapes(lengths, left):
    loss, w = texts("llama", lengths, left=left), causal.weights("llama")
    found = drawn(activation(measurement(), 8), loss, w, 25)
    true = flat(causal.gradient(loss, w))
    assert largest_z(found, true) < 5.5
    assert bool(true.any()) == bool(found.any()) == (max(lengths) > 1)


@pytest.mark.parametrize("micro", [1, 2])
@pytest.mark.parametrize("segments", [1, 3, 8])
def test_micro_batches_change_nothing(segments, micro):
    w = causal.weights("llama")
    estimate = activation(measurement(), 2, segments=segments)
    whole, parts = (estimate(texts("llama", [5, 6, 2], micro=m), w, Key(0)) for m in (None, micro))
    torch.testing.assert_close(flat(parts.gradient), flat(whole.gradient))
    assert parts.value == pytest.approx(whole.value)


def test_unbiased_with_amplitudes():
    loss, w = texts("llama", [6, 3, 5]), causal.weights("llama")
    amplitudes = {name: [0.4 + i, 2.0, 0.7] for i, name in enumerate(w)}
    found = drawn(activation(measurement(), 8, amplitudes=amplitudes, segments=3), loss, w, 60)
    assert largest_z(found, flat(causal.gradient(loss, w))) < 4.5


def test_weight_directions_and_an_exact_head_in_the_same_pass():
    loss = texts("llama", [6, 3, 5])
    head = causal.weights("llama", ending="lm_head.weight")
    w = {
        **causal.weights("llama"),
        **causal.weights("llama", ending="0.self_attn.v_proj.lora_B.default.weight"),
        **head,
    }
    true = causal.gradient(loss, w)
    estimate = activation(
        measurement(exact=head), 8, lambda params, tokens: [n for n in params if "lora_A" in n], segments=3
    )
    got = estimate(loss, w, Key(0))
    assert list(got.gradient) == list(w)
    assert got.value == pytest.approx(float(loss(w)), rel=1e-12)
    (name,) = head
    torch.testing.assert_close(got.gradient[name], true[name])
    found = torch.stack([
        flat({n: g for n, g in estimate(loss, w, Key(i)).gradient.items() if n != name}) for i in range(60)
    ])
    assert largest_z(found, flat({n: g for n, g in true.items() if n != name})) < 4.5


def test_rows_that_are_no_tokens_belong_to_the_first_segment():
    x, w = Key(0).normal("x", (3, 4, 5)), {"A": Key(0).normal("A", (2, 5))}
    u = Key(0).normal("u", (3, 1, 2))
    got = tapped(
        lambda p: F.linear(x.mean(1), p["A"]).square().sum(1), {}, w, [{}], lambda *_: [u], torch.ones(3, 4),
        starts=[0, 2],
    )  # fmt: skip
    trace = got.traces["A"].product()
    assert trace.shape == (1, 3, 2, 2, 5)
    torch.testing.assert_close(trace[0, :, 0], u.transpose(1, 2) * x.mean(1).unsqueeze(1))
    assert not trace[0, :, 1].any()


def test_no_segment_is_refused():
    with pytest.raises(ConfigError, match="at least 1"):
        activation(measurement(), segments=0)


def test_positions_sum_to_the_example():
    loss, w = texts("gpt2", [6, 1, 5]), causal.weights("gpt2")
    assert isinstance(loss, CausalLmLoss)
    torch.testing.assert_close(loss.tokens(w).sum(1), loss.examples(w))
    assert not loss.tokens(w)[:, -1].any()
