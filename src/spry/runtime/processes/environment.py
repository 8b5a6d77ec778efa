"""What torchrun says to the processes that it starts."""

from __future__ import annotations

import os


def group_size() -> int:
    """How many processes torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1


def group_rank() -> int:
    """Which of them this one is; 0 without it."""
    return int(os.environ["RANK"]) if group_size() > 1 else 0


def local_rank() -> int:
    """Which of those on its machine this one is; 0 without torchrun."""
    return int(os.environ.get("LOCAL_RANK", "0"))
