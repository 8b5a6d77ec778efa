"""The check of a task's model: slopes of the task's own loss along each unit, on random texts."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from spry.core.keys import Key
from spry.core.params import Params
from spry.data.encoded import Batch
from spry.forward.check import Checked, ModuleLoss, check
from spry.models.refusal import refused_as
from spry.tasks.kind import TaskKind
from spry.tasks.model_call import ModelCall
from spry.tasks.model_task import ModelTask

PROBED_CLASSES = 2
"""How many classes a classifier is checked with."""
AWAY = 0.02
"""How far weights are moved off their start, where half of LoRA's slopes would be zero."""


def check_task(
    task: ModelTask, key: Key, *, batch: int = 3, length: int = 24, differences: bool = True
) -> Checked:
    """Compare the engine's slopes with backpropagation's and finite differences', computed as the task computes.

    Raises:
        ModelError: If the model cannot read random words.
    """
    inputs = task.probe(key, examples=batch, tokens=length)
    params = {name: w + AWAY * key.normal(name, tuple(w.shape), w) for name, w in task.init().items()}
    module, loss = cast(nn.Module, task.module), _loss(task, inputs)
    name = task.backbone.name
    with torch.no_grad(), refused_as(f"{name}: the model cannot read random words", "Choose another model."):
        loss(module, params)
    return check(module, loss, params, task.units, key, differences=differences)


def usual_outputs(kind: TaskKind, key: Key) -> tuple[str, ...]:
    """What the head's outputs are for random texts."""
    return kind.outputs(kind.probe(["a", "b"], PROBED_CLASSES, key.generator("outputs")))


def _loss(task: ModelTask, inputs: Batch) -> ModuleLoss:
    def loss(module: nn.Module, params: Params) -> Tensor:
        cast_to = {name: weight.to(module.get_parameter(name).dtype) for name, weight in params.items()}
        call = ModelCall(module=module, device=task.device, params=cast_to, unread=task.kind.unread)
        return task.kind.loss(call, inputs, "mean")

    return loss
