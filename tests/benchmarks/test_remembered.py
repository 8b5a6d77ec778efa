"""A model whose lower blocks are remembered is the model."""

from __future__ import annotations

import torch
from benchmarks.remembered import remember
from tests.models.conftest import make


def test_logits_and_gradients_are_those_of_the_whole_model():
    """Padded to other lengths, asked again in another order, and by a second model that shares what is remembered."""
    known = {}
    for labels in (3, 2):
        whole, top = (make("bert", labels).requires_grad_(False) for _ in range(2))
        remember(top.bert, known)
        for ids in ([[2, 5, 6, 3], [2, 7, 3, 0]], [[2, 7, 3, 0, 0], [2, 9, 8, 6, 3]]):
            ids = torch.tensor(ids)
            found = []
            for model in (whole, top):
                weight = model.bert.encoder.layer[-1].output.dense.weight.requires_grad_(True)
                logits = model(input_ids=ids, attention_mask=(ids != 0).long()).logits
                (gradient,) = torch.autograd.grad(logits.square().sum(), weight)
                found.append((logits.detach(), gradient))
            for a, b in zip(*found, strict=True):
                torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    assert sorted(known) == [(2, 5, 6, 3), (2, 7, 3), (2, 9, 8, 6, 3)]
