"""How much the engine computes at a time, by kind of device: as much as fits into a CPU's caches, or keeps a GPU busy.

Results do not depend on these numbers; memory and speed do.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

WORKSPACE = {"cpu": 8 << 20, "cuda": 128 << 20}
"""Bytes that the rows of one chunk of a row-wise program may take."""

MIN_LAZY_BYTES = {"cpu": 1 << 20, "cuda": 32 << 20}
"""Bytes of a result, derivatives included, from which on computing it by rows is worth the trouble."""

SCORES = {"cpu": 1 << 18, "cuda": 1 << 23}
"""Attention scores in one block."""


def by_device(table: Mapping[str, int], device: torch.device) -> int:
    """Look up a table's number for a device; accelerators that are not listed count as CUDA."""
    return table.get(device.type, table["cuda"])
