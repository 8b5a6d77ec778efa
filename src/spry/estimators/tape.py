"""How far down a tape goes, and of how many rows at a time, where nothing of a block's Jacobian is left out.

Blocks on the tape are computed once; each below it a second time, as checkpointing does with all. The tape is kept
within a bound, or within half of what checkpointing would take, so that short texts have all blocks of the whole batch
on it, and long ones most blocks of one text.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch

from spry.estimators.blocks import Blocks
from spry.estimators.loss import Divisible, Loss
from spry.forward.chunking import most_taped


@dataclass(frozen=True)
class Tape:
    """What is on the tape: ``loss`` in small enough micro-batches, and blocks from ``first`` on."""

    loss: Loss
    first: int


def tape_of(loss: Loss, blocks: Blocks, owned: Collection[int], device: torch.device) -> Tape:
    """Choose what is on the tape of the blocks from the lowest owned one on.

    It is the last block alone where sizes are not known. Of shared weights a tape has the sum over all its calls, so
    that it ends above the first call that is not owned.
    """
    last = len(blocks) - 1
    lowest = min(owned, default=last)
    if len(set(blocks.modules)) < len(blocks):
        lowest = next(i + 1 for i in range(last - 1, -2, -1) if i not in owned)
    if lowest == last or not blocks.state_bytes or not isinstance(loss, Divisible):
        return Tape(loss, last)
    count, tokens = loss.shape
    rows, deep = most_taped(count, tokens * blocks.state_bytes, last - lowest, device)
    return Tape(loss.at_most(rows), last - deep)
