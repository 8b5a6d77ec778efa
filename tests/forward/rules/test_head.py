"""Losses behind a trained last layer: autograd's values and gradients, the slopes of jvp, and few logits at a time."""

from __future__ import annotations

import gc

import pytest
import torch
import torch.nn.functional as F
from tests.forward import causal
from tests.forward.reference import drawn

from spry.core.keys import Key
from spry.estimators.backprop import backprop
from spry.estimators.exact import exact_head
from spry.forward import Dual, chunking
from spry.measure.meter import tensor_peak

N, D, V = 9, 4, 40


@pytest.fixture(params=[1, 1 << 23])
def _by_rows(request, monkeypatch):
    monkeypatch.setitem(chunking.MIN_LAZY_BYTES, "cpu", 0)
    monkeypatch.setitem(chunking.WORKSPACE, "cpu", request.param)


def labels(hidden):
    target = torch.arange(N) * 7 % V
    return target.masked_fill(torch.arange(N) < hidden, -100)


def close(left, right):
    torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-13)


@pytest.mark.usefixtures("_by_rows")
@pytest.mark.parametrize("trained", ["weight", "weight and bias", "all"])
@pytest.mark.parametrize("hidden", [0, 3])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_value_gradient_and_slopes(count, reduction, hidden, trained):
    h, ts = drawn(N, D), [drawn(N, D, seed=k + 1) for k in range(count)]
    weight, bias, scale = (
        drawn(V, D),
        drawn(V),
        drawn(N) if reduction == "none" else 1.0,
    )
    target = labels(hidden)
    leaves = {"weight": [weight], "weight and bias": [weight, bias], "all": [h, weight, bias]}[trained]

    def loss(h, weight, bias):
        return (scale * F.cross_entropy(F.linear(h, weight, bias), target, reduction=reduction)).sum()

    for leaf in leaves:
        leaf.requires_grad_()
    got = loss(Dual(h, ts), *((Dual(x, ()) if count == 0 else x) for x in (weight, bias)))
    found = torch.autograd.grad(got.primal, leaves)
    exact = loss(h, weight, bias)
    close(got.primal.detach(), exact.detach())
    for one, other in zip(found, torch.autograd.grad(exact, leaves), strict=True):
        close(one, other)
    for slope, t in zip(got.tangents, ts, strict=True):
        close(
            slope, torch.func.jvp(lambda x: loss(x, weight.detach(), bias.detach()), (h.detach(),), (t,))[1]
        )
        assert not slope.requires_grad


@pytest.mark.usefixtures("_by_rows")
def test_what_it_is_not_for_is_computed_as_before():
    h, weight, target = drawn(N, D), drawn(V, D).requires_grad_(), labels(2)
    smooth = {"label_smoothing": 0.1, "ignore_index": 5}
    for options in (smooth, {"weight": torch.linspace(0.5, 2, V, dtype=torch.float64)}):
        got = F.cross_entropy(F.linear(Dual(h, [h]), weight), target % V, **options)
        (found,) = torch.autograd.grad(got.primal, weight)
        (exact,) = torch.autograd.grad(F.cross_entropy(F.linear(h, weight), target % V, **options), weight)
        close(found, exact)


@pytest.mark.usefixtures("_by_rows")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_models_that_compute_losses_in_float32(dtype):
    h, weight, target = drawn(N, D).to(dtype), drawn(V, D).to(dtype).requires_grad_(), labels(1)
    got = F.cross_entropy(F.linear(Dual(h, [h]), weight).float(), target)
    (found,) = torch.autograd.grad(got.primal, weight)
    (exact,) = torch.autograd.grad(F.cross_entropy(F.linear(h, weight).float(), target), weight)
    precision = {"rtol": 2e-2, "atol": 2e-3} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(found, exact, **precision)
    assert got.dtype == torch.float32 and found.dtype == dtype


@pytest.mark.usefixtures("_by_rows")
@pytest.mark.parametrize("lengths", [[6, 3, 5], [1], [1, 4]])
def test_heads_of_language_models_by_themselves(lengths):
    loss, head = causal.texts("llama", lengths), causal.weights("llama", ending="lm_head.weight")
    found, exact = exact_head()(loss, head, Key(0)), causal.gradient(loss, head)
    assert list(found.gradient) == list(exact) and len(exact) == 1
    for name, gradient in exact.items():
        close(found.gradient[name], gradient)
    assert found.value == pytest.approx(float(loss(head)), rel=1e-12)


class Tokens:
    """The loss of a token classifier's head: a label a token, -100 for padding."""

    mask = None

    def __init__(self):
        from transformers import AutoConfig, AutoModelForTokenClassification

        config = AutoConfig.for_model(
            "bert", hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=30,
            num_labels=V,
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.model = AutoModelForTokenClassification.from_config(config).double().eval()
        self.inputs = {
            "input_ids": torch.arange(12).view(2, 6) + 3,
            "labels": labels(0).repeat(2)[:12].view(2, 6),
        }
        self.inputs["labels"][1, 4:] = -100

    def __call__(self, params, *, checkpoint=False):
        from spry.forward import call

        return call(self.model, params, **self.inputs).loss

    def microbatches(self):
        return [(1.0, self)]


@pytest.mark.usefixtures("_by_rows")
def test_heads_of_token_classifiers_by_themselves():
    loss = Tokens()
    head = {f"classifier.{n}": w.detach().clone() for n, w in loss.model.classifier.named_parameters()}
    found, exact = exact_head()(loss, head, Key(0)), causal.gradient(loss, head)
    assert exact.keys() == found.gradient.keys() == {"classifier.weight", "classifier.bias"}
    for name, gradient in exact.items():
        close(found.gradient[name], gradient)


@pytest.mark.parametrize(("vocabulary", "width", "tokens"), [(4000, 8, 256), (640, 128, 2000)])
def test_it_keeps_no_logits(vocabulary, width, tokens, monkeypatch):
    """A vocabulary's logits of all tokens are several times the head itself; backpropagation keeps them thrice."""
    monkeypatch.setitem(chunking.MIN_LAZY_BYTES, "cpu", 1 << 10)
    monkeypatch.setitem(chunking.WORKSPACE, "cpu", 32 * vocabulary * 4)
    h, target = torch.randn(tokens, width), torch.arange(tokens) % vocabulary
    weight = torch.randn(vocabulary, width)

    class Rows:
        def __call__(self, params, *, checkpoint=False):
            return F.cross_entropy(F.linear(h, params["head"]), target)

        def microbatches(self):
            return [(1.0, self)]

    def peak(estimator):
        estimator(Rows(), {"head": weight}, Key(0))
        gc.collect()
        return tensor_peak(lambda: estimator(Rows(), {"head": weight}, Key(0)))

    logits = tokens * vocabulary * 4
    assert peak(backprop()) > 2 * logits
    assert peak(exact_head()) < logits
