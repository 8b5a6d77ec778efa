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
from spry.forward.chunking import STATES, TAPE, TAPE_STATES, by_device


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


def most_taped(rows: int, state_bytes: int, blocks: int, device: torch.device) -> tuple[int, int]:
    """How many rows to take at a time, and how many blocks under the last one to put on their tape.

    Args:
        rows: Of the micro-batch, >= 1.
        state_bytes: What the hidden state of a row takes.
        blocks: That are asked for, >= 1.
        device: Where they run.
    """
    half = rows * (blocks + STATES) * state_bytes // 2
    states = max(by_device(TAPE, device), half) // state_bytes
    if states >= TAPE_STATES * blocks:
        return min(rows, states // (TAPE_STATES * blocks)), blocks
    return 1, states // TAPE_STATES
