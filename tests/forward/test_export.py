"""A pass can be traced by ``torch.export`` and gives the same slopes when the traced program runs."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spry.forward import chunking, jvp


class Step(nn.Module):
    """A client's step: loss and slope of a one-layer transformer along one direction of its low-rank weight."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, 8)
        self.q, self.k, self.v, self.up, self.down, self.head = (
            nn.Linear(m, n).requires_grad_(False)
            for m, n in ((8, 8), (8, 8), (8, 8), (8, 16), (16, 8), (8, 3))
        )
        self.words.requires_grad_(False)

    def loss(self, a, tokens, labels):
        x = self.words(tokens)
        q, k, v = (
            f(x).view(2, 5, 2, 4).transpose(1, 2) for f in (lambda x: self.q(x) + x @ a, self.k, self.v)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(2, 5, 8)
        x = F.layer_norm(x + y, (8,))
        x = x + self.down(F.gelu(self.up(x)))
        return F.cross_entropy(self.head(x[:, 0]), labels)

    def forward(self, a, v, tokens, labels):
        value, slopes = jvp(lambda p: self.loss(p["a"], tokens, labels), {"a": a}, [{"a": v}])
        return value, slopes


@pytest.mark.parametrize("least", [1, 1 << 20])
def test_an_exported_step_gives_the_same_slopes(monkeypatch, least):
    monkeypatch.setitem(chunking.MIN_LAZY_BYTES, "cpu", least)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        step = Step()
        a, v = torch.randn(8, 8), torch.randn(8, 8)
    tokens, labels = torch.arange(10).view(2, 5), torch.tensor([2, 0])
    want = step(a, v, tokens, labels)
    program = torch.export.export(step, (a, v, tokens, labels), strict=False)
    got = program.module()(a, v, tokens, labels)
    torch.testing.assert_close(got, want)
    other = (a * 2, v - 1, tokens.flip(1), labels.flip(0))
    torch.testing.assert_close(program.module()(*other), step(*other))
