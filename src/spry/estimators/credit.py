"""Credit: which of an example's losses a token's direction is judged by.

In a causal model, moving an output at position tau changes no loss of an earlier position, so for the direction there
the slopes of those losses are noise. A token is credited with the slopes from its own position on. Positions of one
segment share their trace, so that inputs need not be stored, and their credit, that of the segment's first position.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def cut(tokens: int, segments: int) -> list[int]:
    """Cut positions into segments of equal length, as far as they go.

    Args:
        tokens: T, positions of an example, >= 1.
        segments: C, >= 1; T if there are fewer positions.

    Returns:
        The first position of each segment, ``floor(c T / C)``.

    Example:
        >>> cut(10, 4)
        [0, 2, 5, 7]
        >>> cut(2, 8)
        [0, 1]
    """
    count = min(segments, tokens)
    return [c * tokens // count for c in range(count)]


def credit(slopes: Tensor, starts: Sequence[int]) -> Tensor:
    """Sum the slopes that each segment's directions can have moved: ``s_bc = sum_{t >= start(c)} s_bt``.

    Args:
        slopes: Slopes of the positions' losses, shape (K, B, T).
        starts: The segments' first positions.

    Returns:
        Shape (K, B, C); the first segment, which begins at 0, has the slope of the whole example.
    """
    return torch.stack([slopes[..., start:].sum(-1) for start in starts], -1)
