"""Fills models laid out on the meta device with random weights, one by one, packed if asked."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from spry.models.quantized.kinds import Quantization, find_packing
from spry.models.quantized.layers import adopt, can_pack, check_packed, packable, packed_layer, tell_peft


def fill_randomly(
    model: nn.Module,
    device: torch.device,
    dtype: torch.dtype,
    generator: torch.Generator | None,
    quantization: Quantization | None = None,
) -> None:
    """Give each weight on the meta device random values, one at a time, and move the buffers; tied weights stay tied.

    With a ``quantization``, each linear layer of the body is packed once it has its values. A target of ``meta`` has no
    values and no generator.
    """
    if quantization is not None:
        find_packing(quantization, device)
    cast(Any, model).tie_weights()
    to_pack = _chosen(model, quantization)
    filled: dict[nn.Parameter, nn.Parameter] = {}
    for path in [name for name, _ in model.named_modules()]:
        module = model.get_submodule(path)
        for name, empty in list(module.named_parameters(recurse=False)):
            if empty not in filled:
                values = _draw(name, empty.shape, device, dtype, generator)
                filled[empty] = nn.Parameter(values, requires_grad=False)
            setattr(module, name, filled.pop(empty) if path in to_pack else filled[empty])
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, buffer.to(device))
        if path in to_pack and quantization is not None:
            model.set_submodule(path, packed_layer(module, quantization))
    if quantization is not None:
        check_packed(adopt(model), quantization, type(model).__name__)
        tell_peft(model, quantization)


def _chosen(model: nn.Module, quantization: Quantization | None) -> frozenset[str]:
    if quantization is None:
        return frozenset()
    return frozenset(name for name, module in packable(model) if can_pack(module, quantization))


def _draw(
    name: str, shape: torch.Size, device: torch.device, dtype: torch.dtype, generator: torch.Generator | None
) -> torch.Tensor:
    values = torch.empty(shape, dtype=dtype, device=device)
    if values.ndim > 1:
        return values.normal_(0.0, 0.02, generator=generator)
    return values.fill_(0.0 if "bias" in name else 1.0)  # the only other vectors are the norms' weights
