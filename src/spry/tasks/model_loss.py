"""The loss of one batch, split into micro-batches."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spry.core.keys import Key
from spry.core.params import Params
from spry.data.encoded import Batch
from spry.estimators.blocks import Blocks
from spry.models.checkpointing import recomputing
from spry.tasks.kind import Reduction

if TYPE_CHECKING:
    from spry.tasks.model_task import ModelTask


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelLoss:
    """The mean loss of one batch, ``L(w) = 1/B sum_b l(f_w(x_b), y_b)``, with the task's loss ``l``.

    Args:
        base: The values of trainable weights that calls are not given.
        at_once: Rows in memory at once; all if None.
        dropout: Whether the task's dropout acts, if it has any.
    """

    task: ModelTask
    batch: Batch
    key: Key
    base: Params = field(default_factory=dict)
    at_once: int | None = None
    dropout: bool = True

    def __call__(self, params: Params, *, checkpoint: bool = False) -> Tensor:
        parts = self.microbatches()
        if len(parts) == 1:
            return self._whole(params, "mean", checkpoint)
        values = [share * part(params, checkpoint=checkpoint) for share, part in parts]
        return functools.reduce(operator.add, values)

    @property
    def blocks(self) -> Blocks:
        """The model's residual blocks; ModelError if it has none that a guess could be carried through."""
        return self.task.blocks

    @property
    def mask(self) -> Tensor | None:
        """1 for tokens and 0 for padding, shape (B, T)."""
        return self.batch["attention_mask"]

    @property
    def shape(self) -> tuple[int, int]:
        mask = self.batch["attention_mask"]
        return min(len(mask), self.at_once or len(mask)), mask[0].numel()

    def at_most(self, rows: int) -> ModelLoss:
        return replace(self, at_once=rows if self.at_once is None else min(rows, self.at_once))

    def examples(self, params: Params, *, checkpoint: bool = False) -> Tensor:
        """Evaluate the rows' own losses, shape (B,)."""
        parts = [part for _, part in self.microbatches()]
        values = [part._whole(params, "none", checkpoint) for part in parts]
        return values[0] if len(values) == 1 else torch.cat(values)

    def features(self) -> Tensor:
        """What the head's last map reads of each row in the untrained model, shape (B, D)."""
        return self.task.features(self.batch)

    def microbatches(self) -> Sequence[tuple[float, ModelLoss]]:
        count, size = len(self.batch["attention_mask"]), self.at_once
        if size is None or count <= size:
            return [(1.0, self)]
        starts = range(0, count, size)
        pieces = [{name: value[s : s + size] for name, value in self.batch.items()} for s in starts]
        counted = self.task.kind.size(self.batch)
        return [
            (
                self.task.kind.size(piece) / counted,
                replace(self, batch=piece, key=self.key.fold("part", i), at_once=None),
            )
            for i, piece in enumerate(pieces)
        ]

    def _whole(self, params: Params, reduction: Reduction, checkpoint: bool = False) -> Tensor:
        dropping = self.task.dropping(self.key, on=self.dropout)
        with dropping, recomputing() if checkpoint else nullcontext():
            return self.task.kind.loss(self.task.calling({**self.base, **params}), self.batch, reduction)
