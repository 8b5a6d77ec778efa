"""Loads a model with its body packed: through transformers, layer by layer, or in place where the weights are there."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn

from spry.core.errors import ModelError
from spry.models.model_class import ModelClass
from spry.models.quantized.kinds import QUANTIZATIONS, Quantization, find_packing
from spry.models.quantized.layers import adopt, check_packed, packable, quantize
from spry.models.sources import Source

READ_WITH: Mapping[str, Sequence[str]] = {"gptq": ("optimum", "gptqmodel"), "awq": ("gptqmodel",)}
"""The packages with which transformers reads checkpoints that others quantized."""


def loading_arguments(
    name: str,
    config: Any,
    source: Source,
    kind: ModelClass,
    quantization: Quantization | None,
    dtype: torch.dtype,
    device: str | torch.device,
) -> dict[str, Any]:
    """What ``from_pretrained`` is given so that it packs each layer as it reads it; nothing where it cannot.

    The head stays plain, and so do poolers, which are a part of it where a checkpoint lacks them.

    Raises:
        ModelError: If the kind does not run here, or the checkpoint is quantized in another way already, or in one that
            needs packages which are not installed.
    """
    own = None if source.gguf is not None else checkpoint_kind(config)
    if quantization is not None and own is not None and own != quantization:
        raise ModelError(
            f"{name}: its weights are quantized already ({own}), so they cannot become {quantization}. Leave "
            "model.quantization unset, or give the model in full precision."
        )
    if own is not None:
        _check_readers(name, own)
        return {"device_map": {"": str(device)}}
    if quantization is None:
        return {}
    packing = find_packing(quantization, device)
    if source.gguf is not None:
        return {}  # transformers unpacks such a file as a whole; it is packed in place
    return {
        "quantization_config": packing.config(dtype, _plain_modules(config, kind)),
        "device_map": {"": str(device)},
    }


def _check_readers(name: str, own: str) -> None:
    """Refuse a checkpoint before its weights are fetched if what transformers reads them with is missing."""
    missing = [package for package in READ_WITH.get(own, ()) if importlib.util.find_spec(package) is None]
    if missing:
        raise ModelError(
            f"{name}: its weights are quantized by {own}, which transformers reads with {' and '.join(missing)}. Run: "
            f"pip install {' '.join(missing)}; or give the model in full precision, with model.quantization = 'nf4'."
        )


def checkpoint_kind(config: Any) -> str | None:
    """Name the way in which a checkpoint's weights are quantized, if they are; in Spry's words where it has some."""
    found: Any = getattr(config, "quantization_config", None)
    if found is None:
        return None
    given: Mapping[str, Any] = found if isinstance(found, Mapping) else found.to_dict()
    method = str(given.get("quant_method", "unknown"))
    if method == "bitsandbytes":
        return "int8" if given.get("load_in_8bit") else str(given.get("bnb_4bit_quant_type", "fp4"))
    return "int4" if "PrototypeInt4WeightOnlyConfig" in str(given.get("quant_type")) else method


def packed_kind(model: Any) -> Quantization | None:
    """The kind that packs files as a loaded model is packed; None if it is not, or is in a way of others."""
    own = checkpoint_kind(model.config) if is_packed(model) else None
    return cast(Quantization, own) if own in QUANTIZATIONS else None


def _plain_modules(config: Any, kind: ModelClass) -> list[str]:
    """The modules outside the body, by their names in the model, and poolers within."""
    from accelerate import init_empty_weights

    with init_empty_weights():
        model: Any = kind.loader.from_config(config)
    prefix = model.base_model_prefix
    outside = [name for name, _ in model.named_children() if name != prefix]
    return [*outside, *(name for name, _ in model.named_modules() if name.endswith("pooler"))]


def is_packed(model: Any) -> bool:
    """Tell whether transformers loaded a model with packed weights, which it lets nobody cast or move."""
    quantizer = getattr(model, "hf_quantizer", None)
    return quantizer is not None and str(quantizer.quantization_config.quant_method.value) != "gguf"


def finish(model: Any, quantization: Quantization | None, name: str) -> tuple[str, ...]:
    """Pack what is to be packed and is not yet, and let all packed layers obey one rule; returns notes for the user.

    Raises:
        ModelError: If there is nothing that could be packed.
    """
    packed = adopt(model)
    if quantization is None:
        return ()
    if not packed:
        packed = quantize(model, quantization)
        adopt(model)
    check_packed(packed, quantization, name)
    return tuple(_left_out(model, quantization, name))


def _left_out(model: Any, quantization: Quantization, name: str) -> list[str]:
    left = [path for path, module in packable(model) if type(module) is nn.Linear]
    if not left:
        return []
    return [
        f"{name}: {len(left)} linear layers, such as {left[0]}, stay as they are: {quantization} cannot pack their "
        "shape."
    ]
