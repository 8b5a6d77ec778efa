"""MeSP's backward pass gives autograd's gradient and keeps no projection."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from spry.profile.mesp import projections_recomputed


class _Maps(nn.Module):
    """Two maps of one input, as query and value are."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.value = nn.Linear(5, 7), nn.Linear(5, 7, bias=False)

    def forward(self, x):
        return (self.query(x).sigmoid() * self.value(x)).square().sum()


def adapted(**settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LoraConfig(r=3, lora_alpha=6, target_modules=["query", "value"], **settings)
        model = get_peft_model(_Maps(), config).double()
        for weight in model.parameters():
            nn.init.normal_(weight)
        return model, torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)


def gradients(model, x):
    trained = [x, *(weight for weight in model.parameters() if weight.requires_grad)]
    return torch.autograd.grad(model(x), trained)


def test_the_gradient_is_autograds():
    model, x = adapted()
    expected = gradients(model, x)
    with projections_recomputed(model) as count:
        assert count == 2
        found = gradients(model, x)
    assert len(found) == 5
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert "forward" not in vars(model.base_model.model.query)


@pytest.mark.parametrize("settings", [{"lora_dropout": 0.5}, {"use_dora": True}])
def test_what_it_does_not_cover_is_left_to_autograd(settings):
    model, _ = adapted(**settings)
    with projections_recomputed(model) as count:
        assert count == 0


def test_no_projection_is_kept():
    model, x = adapted()

    def kept():
        shapes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: shapes.append(tuple(t.shape)) or t, lambda t: t
        ):
            model(x)
        return [shape for shape in shapes if shape in {(2, 4, 3), (8, 3)}]

    assert kept()
    with projections_recomputed(model):
        assert not kept()
