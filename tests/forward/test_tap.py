"""Taps where the batch's masks live on another device than the model, as in a run on a GPU."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from spry.forward.tap import tapped

BATCH, TOKENS, WIDTH, RANK, PLACES = 2, 5, 4, 3, 2


@pytest.mark.parametrize("tied", [False, True])
def test_masks_may_live_elsewhere(tied):
    x, weight = (torch.empty(*size, device="meta") for size in ((BATCH, TOKENS, WIDTH), (RANK, WIDTH)))
    mask, amplitude = torch.ones(BATCH, TOKENS, dtype=torch.long), torch.full((BATCH, TOKENS), 2.0)
    got = tapped(
        lambda w: F.linear(x, w["A"]).sum((1, 2)),
        {},
        {"A": weight},
        [{}],
        lambda name, call, like: [torch.empty_like(like)],
        mask,
        {"A": amplitude},
        together=torch.ones(BATCH, TOKENS, PLACES) if tied else None,
    )
    assert got.slopes.device.type == got.traces["A"].product().device.type == "meta"
    assert got.traces["A"].product().shape == (1, BATCH, 1, RANK, WIDTH)
