"""Dropout from a key: one key, one set of masks, whatever the pass and however it is cut."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.forward import Dual, dropout, jvp
from tests.forward.reference import CHUNKS, agree, drawn, dual, use_chunks


@pytest.fixture(autouse=True, params=CHUNKS)
def _chunks(request, monkeypatch):
    use_chunks(monkeypatch, request.param)


def model(w, x, key):
    """Two layers with dropout on the input, the hidden state, the attention and the output."""
    with dropout(key):
        h = F.dropout(F.gelu(F.linear(F.dropout(x, 0.2), w)), 0.3)
        q = h.view(2, 5, 2, 4).transpose(1, 2)
        h = F.scaled_dot_product_attention(q, q, q, dropout_p=0.4, is_causal=True)
        return F.dropout(h, 0.1).square().sum()


W, X, V = drawn(8, 4), drawn(2, 5, 4), drawn(8, 4, seed=3)


def test_every_kind_of_pass_sees_the_same_masks():
    plain = model(W, X, Key(1))
    leaf = W.clone().requires_grad_()
    (grad,) = torch.autograd.grad(model(leaf, X, Key(1)), leaf)
    value, slopes = jvp(lambda p: model(p["w"], X, Key(1)), {"w": W}, [{"w": V}])
    assert value.item() == pytest.approx(plain.item(), rel=1e-12)
    assert slopes.item() == pytest.approx((grad * V).sum().item(), rel=1e-10)
    assert model(W, X, Key(2)).item() != plain.item()
    assert model(W, X, Key(1)).equal(plain)


def test_the_share_kept_and_the_scale():
    with dropout(Key(0)):
        x = F.dropout(torch.ones(200, 200), 0.25)
    assert (x > 0).float().mean().item() == pytest.approx(0.75, abs=0.02)
    assert x.max().item() == pytest.approx(1 / 0.75)


def test_nothing_is_drawn_without_need():
    with dropout(Key(0)) as masks:
        x = torch.ones(3)
        assert F.dropout(x, 0.5, training=False) is x
        assert F.dropout(x, 0.0) is x
        assert F.dropout(x, 1.0).eq(0).all()
        assert F.dropout(x, 0.5, inplace=True) is x
    assert masks.count == 2


def test_without_a_key_value_and_derivatives_still_share_a_mask():
    x = dual(torch.ones(50, 4, dtype=torch.float64))
    out = F.dropout(F.linear(x, torch.eye(4, dtype=torch.float64)), 0.5)
    kept = out.primal != 0
    assert 0 < kept.sum() < kept.numel()
    for t, u in zip(out.tangents, x.tangents, strict=True):
        torch.testing.assert_close(t, 2 * u * kept)
    q = dual(drawn(2, 2, 5, 4))
    assert F.scaled_dot_product_attention(q, q, q, dropout_p=0.5).shape == q.shape


def test_in_place_dropout_of_a_dual():
    def function(x):
        y = x * 1
        with dropout(Key(3)):
            F.dropout(y, 0.5, inplace=True)
        return y

    agree(function, drawn(4, 3))


def test_dropout_that_has_no_keyed_masks_is_refused():
    with dropout(Key(0)), pytest.raises(ModelError, match="alpha_dropout"):
        F.alpha_dropout(torch.ones(3), 0.5, training=True)


@pytest.mark.parametrize("weight", [0, 1, 2])
def test_attention_of_weights_that_autograd_tracks_gives_their_gradient(weight):
    """An exact head under dropout: the value's graph and the tangents come from one mask."""
    operands = [drawn(2, 2, 5, 4, seed=i) for i in range(3)]
    leaf = operands[weight].clone().requires_grad_()
    given = [leaf if i == weight else x for i, x in enumerate(operands)]

    def attended(*x):
        with dropout(Key(0)):
            return F.scaled_dot_product_attention(*x, dropout_p=0.4)

    moved = [Dual(x, [drawn(*x.shape, seed=7)]) for x in given]
    out = attended(*moved)
    wanted = attended(*given)
    torch.testing.assert_close(out.primal, wanted)
    assert not out.tangents[0].requires_grad
    found, gradient = (torch.autograd.grad(x.pow(2).sum(), leaf)[0] for x in (out.primal, wanted))
    torch.testing.assert_close(found, gradient)
    tangents = tuple(x.tangents[0] for x in moved)
    torch.testing.assert_close(out.tangents[0], torch.func.jvp(attended, tuple(operands), tangents)[1])


def test_attention_that_would_draw_two_masks_is_refused():
    x = Dual(drawn(1, 1, 3, 2).requires_grad_(), [drawn(1, 1, 3, 2)])
    with pytest.raises(ModelError, match="give dropout a key"):
        F.scaled_dot_product_attention(x, x, x, dropout_p=0.5)


def test_a_function_without_a_rule_draws_once_for_value_and_tangents_that_autograd_tracks():
    x = Dual(
        torch.ones(40, 5, 3, dtype=torch.float64).requires_grad_(),
        [torch.ones(40, 5, 3, dtype=torch.float64)],
    )
    out = F.dropout1d(x, 0.5)
    assert out.primal.requires_grad
    torch.testing.assert_close(out.tangents[0], out.primal.detach())
