"""The kinds of quantization: how transformers is asked for one, and how a single layer is packed."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from spry.core.errors import ModelError, nearest

Quantization = Literal["nf4", "int8", "int4"]
"""nf4: bitsandbytes' NormalFloat in 4 bits, scales nested; int8: its integers with a scale a row; int4: torchao's
integers with a scale and a zero for 64 of a row."""
QUANTIZATIONS: tuple[Quantization, ...] = get_args(Quantization)

INT4_GROUP = 64
"""Weights of a row that share a scale and a zero in int4."""


@dataclass(frozen=True, kw_only=True)
class Packing:
    """One kind.

    Args:
        package: What has to be installed.
        bits: Bits of a weight, scales included, for a model in float32 or bfloat16.
        config: Makes what ``from_pretrained`` takes as ``quantization_config``, from the type that the model computes
            in and the modules to leave as they are.
        pack: Makes a packed layer from a plain one's weight, shape (N, D), and bias.
        devices: Where it runs.
    """

    package: str
    bits: Callable[[torch.dtype], float]
    config: Callable[[torch.dtype, Sequence[str]], Any]
    pack: Callable[[Tensor, Tensor | None], nn.Module]
    devices: tuple[str, ...] = ("cpu", "cuda")


def find_packing(quantization: str, device: str | torch.device = "cpu") -> Packing:
    """Look up a kind.

    Raises:
        ModelError: If there is no such kind, its package is not installed, or it does not run on that device.
    """
    if quantization not in QUANTIZATIONS:
        raise ModelError(
            f"There is no quantization {quantization!r}. {nearest(quantization, QUANTIZATIONS)} A checkpoint of "
            "another kind (gptq, awq) is loaded as it is, with model.quantization unset."
        )
    kind, where = PACKINGS[cast(Quantization, quantization)], torch.device(device).type
    if where not in {*kind.devices, "meta"}:
        raise ModelError(
            f"model.quantization = {quantization!r} runs on {', '.join(kind.devices)} only, and model.device is "
            f"{where}. Set model.quantization = 'nf4' or 'int8'."
        )
    _find(kind.package, quantization)
    return kind


def _find(package: str, quantization: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(package)
    except ImportError as error:
        raise ModelError(
            f"model.quantization = {quantization!r} needs {package}, which is not installed. Run: "
            "pip install 'spry-fl[quantized]'"
        ) from error


def _nf4_config(dtype: torch.dtype, skip: Sequence[str]) -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=list(skip),
    )


def _nf4(weight: Tensor, bias: Tensor | None) -> nn.Module:
    layers = _find("bitsandbytes", "nf4").nn
    with torch.device("meta"):
        layer = layers.Linear4bit(
            weight.shape[1], weight.shape[0], bias is not None, compute_dtype=weight.dtype, quant_type="nf4"
        )
    layer.weight = layers.Params4bit(
        weight.detach().contiguous(), requires_grad=False, quant_type="nf4", module=layer
    ).to(weight.device)  # bitsandbytes quantises on the first move
    return _with_bias(layer, bias)


def _int8_config(dtype: torch.dtype, skip: Sequence[str]) -> Any:
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0, llm_int8_skip_modules=list(skip))


def _int8(weight: Tensor, bias: Tensor | None) -> nn.Module:
    layers = _find("bitsandbytes", "int8").nn
    with torch.device("meta"):
        layer = layers.Linear8bitLt(
            weight.shape[1], weight.shape[0], bias is not None, has_fp16_weights=False
        )
    layer.weight = layers.Int8Params(weight.detach().cpu(), requires_grad=False).to(weight.device)
    return _with_bias(layer, bias)


def _int4_config(dtype: torch.dtype, skip: Sequence[str]) -> Any:
    from transformers import TorchAoConfig

    return TorchAoConfig(_group_wise(), modules_to_not_convert=list(skip))


def _int4(weight: Tensor, bias: Tensor | None) -> nn.Module:
    quantize: Any = _find("torchao", "int4").quantization.quantize_
    with torch.device("meta"):
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    layer.weight = nn.Parameter(weight.detach().contiguous(), requires_grad=False)
    quantize(layer, _group_wise())
    return _with_bias(layer, bias)


def _group_wise() -> Any:
    """The only 4-bit integers of torchao 0.18 that the CPU packs."""
    workflow = importlib.import_module("torchao.prototype.quantization.int4.inference_workflow")
    return workflow.PrototypeInt4WeightOnlyConfig(group_size=INT4_GROUP, set_inductor_config=False)


def _with_bias(layer: Any, bias: Tensor | None) -> nn.Module:
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer.eval()


PACKINGS: Mapping[Quantization, Packing] = {
    "nf4": Packing(
        package="bitsandbytes", bits=lambda _: 4 + 8 / 64 + 32 / (64 * 256), config=_nf4_config, pack=_nf4
    ),
    "int8": Packing(package="bitsandbytes", bits=lambda _: 8, config=_int8_config, pack=_int8),
    "int4": Packing(
        package="torchao",
        bits=lambda dtype: 4 + 2 * 8 * dtype.itemsize / INT4_GROUP,
        config=_int4_config,
        pack=_int4,
        devices=("cpu",),
    ),
}
