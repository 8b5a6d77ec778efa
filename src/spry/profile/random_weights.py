"""Fills models laid out on the meta device with random weights, one by one, 4-bit ones if asked."""

from __future__ import annotations

import importlib
from typing import Any, cast

import torch
from torch import nn

from spry.core.errors import ModelError


def quantise_linears(model: nn.Module, dtype: torch.dtype) -> None:
    """Replace the linear layers of a body on the meta device, not of its head, by empty 4-bit ones (NF4, nested).

    ``dtype`` is that of the arithmetic and of the biases.
    """
    bitsandbytes = find_bitsandbytes()
    body = f"{cast(Any, model).base_model_prefix}."
    for path, module in list(model.named_modules()):
        if type(module) is not nn.Linear or not path.startswith(body):
            continue
        quantised = bitsandbytes.nn.Linear4bit(
            module.in_features,
            module.out_features,
            module.bias is not None,
            compute_dtype=dtype,
            quant_type="nf4",
            device="meta",
        )
        quantised.support_avx512bf16_for_cpu = False  # that layout computes without a graph: gradients vanish
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, quantised)
    cast(Any, model).is_loaded_in_4bit = True  # how PEFT tells one


def fill_randomly(
    model: nn.Module, device: torch.device, dtype: torch.dtype, generator: torch.Generator | None
) -> None:
    """Give each weight on the meta device random values, one at a time, and move the buffers; tied weights stay tied.

    4-bit weights are quantised from ``dtype`` as they are drawn. A target of ``meta`` has no values and no generator.
    """
    cast(Any, model).tie_weights()
    filled: dict[nn.Parameter, nn.Parameter] = {}
    for module in model.modules():
        for name, empty in list(module.named_parameters(recurse=False)):
            if empty not in filled:
                values = _draw(name, empty.shape, device, dtype, generator)
                filled[empty] = _like(empty, values, module)
            setattr(module, name, filled[empty])
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, buffer.to(device))


def _draw(
    name: str, shape: torch.Size, device: torch.device, dtype: torch.dtype, generator: torch.Generator | None
) -> torch.Tensor:
    values = torch.empty(shape, dtype=dtype, device=device)
    if values.ndim > 1:
        return values.normal_(0.0, 0.02, generator=generator)
    return values.fill_(0.0 if "bias" in name else 1.0)  # the only other vectors are the norms' weights


def _like(empty: nn.Parameter, values: torch.Tensor, module: nn.Module) -> nn.Parameter:
    if type(empty) is nn.Parameter:
        return nn.Parameter(values, requires_grad=False)
    packed = find_bitsandbytes().nn.Params4bit(
        values, requires_grad=False, quant_type="nf4", compress_statistics=True, module=module
    )
    return packed.to(values.device)  # bitsandbytes quantises on the first move


def find_bitsandbytes() -> Any:
    """Import bitsandbytes.

    Raises:
        ModelError: If it is not installed.
    """
    try:
        return importlib.import_module("bitsandbytes")
    except ImportError as error:
        message = "4-bit weights need bitsandbytes, which is not installed; run: pip install bitsandbytes"
        raise ModelError(message) from error
