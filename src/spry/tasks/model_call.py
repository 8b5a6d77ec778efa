"""A model with some of its weights given, ready to be called on batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spry.core.params import Params
from spry.data.encoded import Batch
from spry.forward.functional import call

HALF = frozenset({torch.bfloat16, torch.float16})


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelCall:
    """A model as a function of batches.

    Args:
        module: The model, with its adapter.
        params: Weights that take the place of its own, plain or duals.
        unread: Names in a batch that the model is not given, such as ``labels``.
        guard: What is entered around each call.
    """

    module: Any
    device: torch.device
    params: Params
    unread: frozenset[str]
    guard: Callable[[], AbstractContextManager[None]] = nullcontext

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """What of a batch the model is given, on its device: rows of several texts lie below each other."""
        given = {name: value.to(self.device) for name, value in batch.items() if name not in self.unread}
        return {name: value.flatten(0, -2) if value.dim() > 2 else value for name, value in given.items()}

    def __call__(self, batch: Batch, **more: Any) -> Any:
        """Run the model; its output as transformers gives it."""
        with self.guard():
            return call(self.module, self.params, **self.inputs(batch), **more)

    def logits(self, batch: Batch, **more: Any) -> Tensor:
        """Run the model; its scores, float32 or wider."""
        return widened(self(batch, **more).logits)

    def on_device(self, batch: Batch, name: str) -> Tensor:
        return batch[name].to(self.device)


def widened(scores: Tensor) -> Tensor:
    return scores.float() if scores.dtype in HALF else scores


def floating(output: Mapping[str, Any]) -> Tensor:
    """All scores of a model's output in one row, whatever they are called, to compare two models by."""
    scores = [value for value in output.values() if isinstance(value, Tensor) and value.is_floating_point()]
    return torch.cat([value.double().flatten() for value in scores])
