"""``spry check``: whether the forward engine runs a model and differentiates it correctly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from spry.core.errors import ConfigError, ModelError
from spry.core.keys import Key
from spry.core.params import Params
from spry.core.units import Unit
from spry.forward import call
from spry.forward.check import Checked, ModuleLoss, check
from spry.models.adapters import Lora
from spry.models.device import check_device
from spry.models.quantized.kinds import Quantization, find_packing
from spry.models.refusal import refused_as
from spry.profile.case import HeadKind
from spry.profile.case_task import HEADS
from spry.profile.random_model import build_model, example_batch
from spry.profile.resolve import resolve_model
from spry.profile.task_check import check_task, usual_outputs
from spry.tasks.kinds import make_task
from spry.tasks.model_task import ModelTask

_CLASSIFYING = "classification"
"""What a model is checked for where nothing is said."""

ATTENTION_ADVICE: Mapping[str, str] = {
    "eager": 'load it with attn_implementation="sdpa": eager attention holds all scores of a layer at once',
    "flash_attention_2": 'load it with attn_implementation="sdpa", which the engine runs in blocks itself',
    "flex_attention": 'load it with attn_implementation="sdpa", which the engine runs in blocks itself',
}


@dataclass(frozen=True, kw_only=True)
class ModelCheck:
    model: str
    dtype: str
    attention: str
    advice: str | None
    checked: Checked

    @property
    def passed(self) -> bool:
        return self.checked.passed

    def to_json(self) -> dict[str, Any]:
        """Flatten into plain values, the fields of ``checked`` among them."""
        record = asdict(self)
        return {**record, **record.pop("checked"), "passed": self.passed}


def check_model(
    model: str,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    layers: int | None = None,
    head: HeadKind = "classification",
    task: str = _CLASSIFYING,
    quantization: Quantization | None = None,
    targets: Sequence[str] = (),
    batch: int = 3,
    length: int = 24,
    differences: bool = True,
    seed: int = 0,
) -> ModelCheck:
    """Check the engine on a model with LoRA on its query and value projections, on random tokens, one row padded.

    Args:
        model: What ``resolve_model`` understands: what ``spry run`` takes, or a shape.
        dtype: Of the weights, as torch names it.
        device: Where to run.
        layers: Depth of a shape; None for its own.
        head: Head of a shape.
        task: What a model with weights is checked for, as ``task.name`` calls it.
        quantization: How the frozen linear layers are packed; None leaves them as they are.
        targets: Names or endings of names of the modules to adapt; none finds query and value projections.
        batch: Rows, >= 2.
        length: Tokens of a row, >= 2.
        differences: Whether to compare with finite differences in float64 too.
        seed: Of the tokens, directions and a shape's weights.

    Raises:
        ConfigError: If the device is not there, there is no such task, or a depth is given for a model with weights.
        ModelError: If the model cannot be loaded or a target is not found.
    """
    check_device(device, "the device")
    if quantization is not None:
        find_packing(quantization, device)
    key = Key(seed).fold("check")
    options = {"dtype": getattr(torch, dtype), "device": device, "quantization": quantization}
    if resolve_model(model).architecture is not None:
        if task != _CLASSIFYING:
            raise ConfigError(
                f"--task is for models with weights; the shape {model} is checked as a classifier"
            )
        options |= {"layers": layers, "head": HEADS[head], "targets": targets}
        module, found = _check_shape(model, batch, length, key, differences, options)
    else:
        if layers is not None:
            raise ConfigError(f"--layers is for shapes, such as shape:bert-base; {model} is checked whole")
        kind, adapter = make_task(task), Lora(targets=tuple(targets) or None)
        loaded = ModelTask(model, kind, labels=usual_outputs(kind, key), key=key, adapter=adapter, **options)
        found = check_task(loaded, key, batch=batch, length=length, differences=differences)
        module = loaded.module
    attention = str(cast(Any, module).config._attn_implementation)
    return ModelCheck(
        model=model, dtype=dtype, attention=attention, advice=ATTENTION_ADVICE.get(attention), checked=found
    )


def _check_shape(
    model: str, batch: int, length: int, key: Key, differences: bool, options: dict[str, Any]
) -> tuple[nn.Module, Checked]:
    """Build a shape with random weights and check it on the loss that it computes itself."""
    module = build_model(model, key=key, length=length, **options)
    inputs = example_batch(module, batch, length, key)
    inputs["attention_mask"][0, length // 2 :] = 0
    params = {name: weight.detach() for name, weight in module.named_parameters() if weight.requires_grad}
    loss = _own_loss(inputs)
    with torch.no_grad(), refused_as(f"{model}: the model cannot read random words", "Choose another model."):
        loss(module, params)
    return module, check(module, loss, params, _units(params), key, differences=differences)


def _own_loss(inputs: Mapping[str, Tensor]) -> ModuleLoss:
    """The loss that a model computes itself."""

    def loss(module: nn.Module, params: Params) -> Tensor:
        value = call(module, params, **inputs).loss
        if value is None:
            raise ModelError("the model computes no loss from its labels; it needs a task head that does")
        return value

    return loss


def _units(params: Params) -> list[Unit]:
    """Group trainable weights by the module that LoRA was put on; the rest is the head."""
    modules: dict[str, list[str]] = {}
    for name in params:
        modules.setdefault(name.partition(".lora_")[0] if ".lora_" in name else "head", []).append(name)
    return [
        Unit(name=module.removeprefix("base_model.model."), names=tuple(names), head=module == "head")
        for module, names in modules.items()
    ]
