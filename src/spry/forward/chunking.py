"""How much the engine computes at a time, by kind of device: what a CPU's caches hold, what keeps a GPU busy.

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
    """Look up a number for a device.

    Args:
        table: One of the tables above.
        device: Any device; accelerators that are not listed are taken for CUDA's like.

    Returns:
        The number.
    """
    return table.get(device.type, table["cuda"])
