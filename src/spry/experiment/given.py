"""Objects handed over in Python, which stand in for what a configuration names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from spry.core.errors import CheckpointError
from spry.experiment.folder import read_meta


@dataclass(frozen=True, kw_only=True)
class Given:
    """A model, its tokenizer, and labelled text as ``load_dataset`` takes it; None for what the configuration names."""

    model: nn.Module | None = None
    tokenizer: Any = None
    data: Any = None
    test: Any = None

    @property
    def names(self) -> list[str]:
        return [name for name in ("model", "tokenizer", "data", "test") if getattr(self, name) is not None]


NOTHING = Given()


def check_given(folder: Path, given: Given) -> None:
    """Refuse (CheckpointError) to go on without the objects that a run began with."""
    missing = [name for name in read_meta(folder).get("given", []) if name not in given.names]
    if missing:
        raise CheckpointError(
            f"{folder} was begun in Python with objects that no file holds ({', '.join(missing)}). Go on there, by "
            f"spry.finetune(..., folder={str(folder)!r}, resume=True) with the same objects."
        )
