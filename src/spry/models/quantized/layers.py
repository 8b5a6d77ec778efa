"""Lets the quantized layers of a model obey Spry's one rule for them, packs plain ones, and unpacks them again."""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from spry.core.errors import ModelError
from spry.forward.packed import packed_linear
from spry.models.quantized.kinds import INT4_GROUP, Quantization, find_packing
from spry.models.quantized.rows import packed_of


def adopt(model: nn.Module) -> int:
    """Let every layer that bitsandbytes or torchao packed compute ``packed_linear``, and count them.

    Inference, backpropagation and the forward engine then compute the same numbers, by the same tiles.
    """
    found = [module for module in model.modules() if packed_of(module) is not None]
    for module in found:
        _as_serialized(module)
        module.forward = MethodType(_forward, module)
    return len(found)


def has_packed(model: nn.Module) -> bool:
    """Tell whether any layer of a model is packed."""
    return any(packed_of(module) is not None for module in model.modules())


def _forward(layer: Any, x: Tensor) -> Tensor:
    weight = packed_of(layer)
    assert weight is not None  # it was when the layer was adopted
    return packed_linear(x, weight, layer.bias)


def _as_serialized(module: Any) -> None:
    """Take back the layout that bitsandbytes gives a weight when it has run on some CPUs."""
    if getattr(getattr(module.weight, "quant_state", None), "packing_format_for_cpu", False):
        from bitsandbytes.functional import (  # pyright: ignore[reportMissingImports]
            _convert_weight_packed_for_cpu_inverse,
        )

        module.weight.data, module.weight.quant_state = _convert_weight_packed_for_cpu_inverse(
            module.weight.data, module.weight.quant_state
        )


def quantize(model: Any, kind: Quantization) -> int:
    """Pack the linear layers of a model's body, one by one and in place, and count them."""
    packed = 0
    for name, module in packable(model):
        if can_pack(module, kind):
            model.set_submodule(name, packed_layer(module, kind))
            packed += 1
    tell_peft(model, kind)
    return packed


def tell_peft(model: Any, kind: Quantization) -> None:
    """Say which layers peft will find, as transformers does; of torchao's it needs no word."""
    model.is_loaded_in_4bit, model.is_loaded_in_8bit = kind == "nf4", kind == "int8"


def packable(model: Any) -> list[tuple[str, nn.Module]]:
    """The plain linear layers of a model's body, by name, but for poolers, which may be a part of the head."""
    prefix = f"{model.base_model_prefix}."
    return [found for found in linear_layers(model) if found[0].startswith(prefix)]


def linear_layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The plain linear layers of a model, by name, but for those of poolers."""
    from transformers.pytorch_utils import Conv1D

    return [
        (name, module)
        for name, module in model.named_modules()
        if "pooler" not in name.split(".")
        and (type(module) is nn.Linear or isinstance(module, Conv1D))
        and packed_of(module) is None
    ]


def packed_layer(module: nn.Module, kind: Quantization) -> nn.Module:
    """Pack one linear layer, or one of GPT-2's transposed ones."""
    plain: Any = module
    weight = plain.weight if isinstance(module, nn.Linear) else plain.weight.T
    packed: Any = find_packing(kind, weight.device).pack(weight, plain.bias)
    packed.source_cls = type(module)  # as transformers notes it
    return packed


def can_pack(module: nn.Module, kind: Quantization) -> bool:
    """Tell whether this kind packs a linear layer: int4 leaves out transposed and narrow ones, as transformers does."""
    if kind != "int4":
        return True
    return (
        isinstance(module, nn.Linear) and not module.in_features % INT4_GROUP and not module.out_features % 16
    )


def check_packed(count: int, kind: Quantization, name: str) -> None:
    """Refuse (ModelError) a model of which nothing was packed."""
    if count == 0:
        wants = (
            f"linear layers of {INT4_GROUP}, 128, ... inputs, not transposed ones"
            if kind == "int4"
            else "any"
        )
        other = "Set model.quantization = 'nf4' or 'int8', or leave it unset." if kind == "int4" else ""
        raise ModelError(f"{name}: has no layers that {kind} can pack, which takes {wants}. {other}".strip())


@torch.no_grad()
def dequantize(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Replace every packed layer by a plain one of the same numbers, in place; needs room for all of them."""
    for name, module in list(model.named_modules()):
        weight = packed_of(module)
        if weight is None:
            continue
        model.set_submodule(name, _plain(module, weight.rows(0, weight.shape[0], dtype)))
    forget(model)
    return model


def _plain(packed: Any, weight: Tensor) -> nn.Module:
    """The layer that a packed one was made from, with another weight, shape (N, D)."""
    from transformers.pytorch_utils import Conv1D

    transposed = getattr(packed, "source_cls", nn.Linear) is Conv1D
    with torch.device("meta"):
        plain: Any = Conv1D(*weight.shape) if transposed else nn.Linear(weight.shape[1], weight.shape[0])
    plain.weight = nn.Parameter(weight.T.contiguous() if transposed else weight, requires_grad=False)
    bias = packed.bias
    plain.bias = None if bias is None else nn.Parameter(bias.to(weight.dtype), requires_grad=False)
    return plain.eval()


def forget(model: Any) -> None:
    """Let a model be cast, moved and saved again as one of plain numbers."""
    for part in model.modules():
        for mark in (
            "is_loaded_in_4bit",
            "is_loaded_in_8bit",
            "is_quantized",
            "hf_quantizer",
            "quantization_method",
        ):
            part.__dict__.pop(mark, None)
        config = part.__dict__.get("config")
        if hasattr(config, "quantization_config"):
            del config.quantization_config
