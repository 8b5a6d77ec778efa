"""The loss against transformers' own; its slopes against autograd; padding changes neither."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from spry.core.keys import Key
from spry.core.params import dot
from spry.forward import call, jvp
from spry.tasks.question_answering.loss import span_loss
from tests.tasks.question_answering.models import READERS, reader

LENGTHS = [9, 6, 1]


@pytest.fixture(params=READERS)
def model(request):
    return reader(request.param).double()


def rows(*lengths: int) -> dict[str, torch.Tensor]:
    """Random windows, padded on the right to the longest."""
    draw = Key(1).generator("rows")
    mask = torch.tensor([[int(at < length) for at in range(max(lengths))] for length in lengths])
    spans = [sorted(draw.integers(length, size=2).tolist()) for length in lengths]
    return {
        "input_ids": torch.tensor(draw.integers(4, 32, size=mask.shape)) * mask,
        "attention_mask": mask,
        "start_positions": torch.tensor([start for start, _ in spans]),
        "end_positions": torch.tensor([end for _, end in spans]),
    }


def own(batch):
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


def test_it_is_the_loss_of_transformers_without_padding(model):
    for batch in (rows(7, 7, 7), rows(1), rows(9)):
        expected = model(**batch)
        loss = span_loss(expected.start_logits, expected.end_logits, batch)
        assert float(loss) == pytest.approx(float(expected.loss), rel=1e-12)


def test_a_window_has_the_loss_that_it_has_alone(model):
    batch = rows(*LENGTHS)
    found = model(**own(batch))
    losses = span_loss(found.start_logits, found.end_logits, batch, reduction="none")
    for row, length in enumerate(LENGTHS):
        alone = {n: v[row : row + 1, :length] if v.dim() == 2 else v[row : row + 1] for n, v in batch.items()}
        assert float(losses[row]) == pytest.approx(float(model(**alone).loss), rel=1e-9)
    assert float(span_loss(found.start_logits, found.end_logits, batch)) == pytest.approx(
        float(losses.mean())
    )


def test_slopes_are_those_of_autograd(model):
    batch = rows(*LENGTHS)
    weights = {name: weight.detach() for name, weight in model.named_parameters()}
    directions = [
        {name: Key(k).normal(name, tuple(w.shape), like=w) for name, w in weights.items()} for k in range(2)
    ]

    def loss(params):
        found = call(model, params, **own(batch))
        return span_loss(found.start_logits, found.end_logits, batch)

    leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    value = loss(leaves)
    found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
    gradient = {
        n: torch.zeros_like(leaves[n]) if g is None else g for n, g in zip(leaves, found, strict=True)
    }
    primal, slopes = jvp(loss, weights, directions)
    assert float(primal) == pytest.approx(float(value), rel=1e-9)
    assert slopes.tolist() == pytest.approx([float(dot(gradient, v)) for v in directions], rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_padding_weighs_nothing_in_any_type(dtype):
    batch = rows(3, 8)
    scores = Key(0).normal("scores", (2, 8)).to(dtype)
    alone = [(scores[0, :3], batch["start_positions"][0]), (scores[1], batch["start_positions"][1])]
    expected = [F.cross_entropy(logits, place).item() for logits, place in alone]
    losses = span_loss(scores, scores, {**batch, "end_positions": batch["start_positions"]}, reduction="none")
    assert losses.tolist() == pytest.approx(expected, rel=1e-2)
