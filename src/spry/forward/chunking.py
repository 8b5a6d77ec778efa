"""How much the engine computes at a time, by kind of device: as much as fits into a CPU's caches, or keeps a GPU busy.

A pass over few rows takes less than that: its workspace is a share of what it would take at once, or a text of
ordinary length would need more for the workspace than inference needs in all. Results do not depend on these numbers;
memory and speed do.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

WORKSPACE = {"cpu": 8 << 20, "cuda": 128 << 20}
"""Bytes that the rows of one chunk of a row-wise program may take."""

MIN_LAZY_BYTES = {"cpu": 1 << 18, "cuda": 32 << 20}
"""Bytes of a result, derivatives included, from which on computing it by rows is worth the trouble."""

SCORES = {"cpu": 1 << 18, "cuda": 1 << 23}
"""Attention scores in one block."""

CHUNKS = {"cpu": 3, "cuda": 1}
"""Chunks that a program over all rows of a pass is cut into at least, if they are larger than ``MIN_WORKSPACE``."""

MIN_WORKSPACE = {"cpu": 5 << 19, "cuda": 128 << 20}
"""Bytes that a chunk may take however few the rows are: smaller ones cost more time than memory is saved."""

MIN_SCORES = {"cpu": 1 << 15, "cuda": 1 << 23}
"""Attention scores that a block may have however short the texts are."""

TILE = {"cpu": 1 << 21, "cuda": 1 << 25}
"""Bytes of a dequantised tile of a weight that is kept packed."""

MIN_QUERIES = {"cpu": 32, "cuda": 1 << 30}
"""Queries of a single example that are computed at a time, where a quarter of them is not more."""

STATES = 20
"""Hidden states that autograd keeps of a transformer's block, about: 22 of BERT's."""

TAPE = {"cpu": 32 << 20, "cuda": 1 << 30}
"""Bytes that a tape may take even if checkpointing would take less."""

TAPE_STATES = 12
"""Hidden states that it keeps of a block whose maps are frozen, about: 11.3 of BERT's with LoRA."""


def by_device(table: Mapping[str, int], device: torch.device) -> int:
    """Look up a table's number for a device; accelerators that are not listed count as CUDA."""
    return table.get(device.type, table["cuda"])


def most_rows(row_bytes: int, num_rows: int, device: torch.device) -> int:
    """How many rows of a program to compute at a time, >= 1.

    Args:
        row_bytes: What the program takes for a row, derivatives included.
        num_rows: Rows of the whole pass, of which the program may compute some.
        device: Where it runs.
    """
    share = row_bytes * -(-num_rows // by_device(CHUNKS, device))
    budget = min(by_device(WORKSPACE, device), max(by_device(MIN_WORKSPACE, device), share))
    return max(32, budget // max(1, row_bytes))


def most_examples(examples: int, tokens: int, state_bytes: int, device: torch.device) -> int:
    """How many examples of a block's call to differentiate at a time, >= 1.

    Args:
        examples: B.
        tokens: Of one example.
        state_bytes: Of the hidden state of all examples.
        device: Where it runs.
    """
    rows = max(1, examples * tokens)
    return max(1, most_rows(STATES * state_bytes // rows, rows, device) // max(1, tokens))


def most_taped(rows: int, state_bytes: int, blocks: int, device: torch.device) -> tuple[int, int]:
    """How many rows to take at a time, and how many blocks under the last one to put on their tape, >= 0.

    All blocks of as many rows as are within the bound, or as many blocks of one row. The bound is ``TAPE``, or half of
    what checkpointing takes: a hidden state of each block, and one block's tape.

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


def most_scores(examples: int, entries: int, device: torch.device) -> int:
    """How many attention scores to compute at a time, >= 1.

    They exist about three times over. A single example's keys and values stand beside them as a whole.

    Args:
        examples: B.
        entries: Of the queries, (B, H, L, D).
        device: Where it runs.
    """
    share = entries // (2 if examples > 1 else 4)
    return min(by_device(SCORES, device), max(by_device(MIN_SCORES, device), share))
