"""A checkpoint of Llama2-7B's shape in bitsandbytes' 4 bits, with random weights, written layer by layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bitsandbytes
import torch
from safetensors.torch import save_file
from torch import Tensor

from spry.core.keys import Key
from spry.models.pretrained import read_tokenizer
from spry.models.sources import find_source
from spry.profile.architectures import ARCHITECTURES

SHAPE = "llama2-7b"
BLOCK = 64
"""Weights that share a scale."""


def write_checkpoint(folder: Path, layers: int) -> None:
    """Write the pretrained part, its configuration, and MiniLM's tokenizer, whose words Llama has room for."""
    from transformers import AutoConfig

    folder.mkdir(parents=True, exist_ok=True)
    sizes = {**ARCHITECTURES[SHAPE].sizes, "num_hidden_layers": layers, "pad_token_id": 0}
    config: Any = AutoConfig.for_model("llama", **sizes, dtype="bfloat16")
    config.quantization_config = {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": "bfloat16",
        "bnb_4bit_quant_storage": "uint8",
        "llm_int8_skip_modules": ["score", "lm_head"],
    }
    config.save_pretrained(folder)
    read_tokenizer("minilm", find_source("minilm")).save_pretrained(folder)
    places: dict[str, str] = {}
    shapes = _shapes(config)
    packed = {shape: _packed(shape) for shape in set(shapes.values())}
    for layer in range(layers):
        tensors = {
            f"model.layers.{layer}.{name}.weight{part}": value
            for name, shape in shapes.items()
            for part, value in _rolled(packed[shape], Key(layer).fold(name)).items()
        }
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{layer}.{norm}.weight"] = torch.ones(
                config.hidden_size, dtype=torch.bfloat16
            )
        places |= _save(tensors, folder / f"model-{layer:05d}.safetensors")
    words = torch.empty(config.vocab_size, config.hidden_size, dtype=torch.bfloat16)
    words.normal_(0, 0.02, generator=torch.Generator().manual_seed(0))
    rest = {
        "model.embed_tokens.weight": words,
        "model.norm.weight": torch.ones(config.hidden_size, dtype=torch.bfloat16),
    }
    places |= _save(rest, folder / "model-embeddings.safetensors")
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _shapes(config: Any) -> dict[str, tuple[int, int]]:
    """The linear layers of one block: outputs and inputs."""
    d, f = config.hidden_size, config.intermediate_size
    attention = {f"self_attn.{name}_proj": (d, d) for name in "qkvo"}
    return attention | {"mlp.gate_proj": (f, d), "mlp.up_proj": (f, d), "mlp.down_proj": (d, f)}


def _packed(shape: tuple[int, int]) -> dict[str, Tensor]:
    """Random weights of one shape, as bitsandbytes writes them."""
    weight = torch.empty(shape, dtype=torch.bfloat16)
    weight.normal_(0, 0.02, generator=torch.Generator().manual_seed(shape[0]))
    numbers, state = bitsandbytes.functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    return {"": numbers, **{f".{name}": part for name, part in state.as_dict(packed=True).items()}}


def _rolled(packed: dict[str, Tensor], key: Key) -> dict[str, Tensor]:
    """Other weights of the same numbers: whole blocks turned round, each with its scale."""
    blocks = packed[".absmax"].numel()
    turn = int(key.generator("turn").integers(blocks // 256)) * 256  # scales of 256 blocks have a scale, too
    return {
        **packed,
        "": packed[""].roll(turn * BLOCK // 2, 0),
        ".absmax": packed[".absmax"].roll(turn, 0),
        ".nested_absmax": packed[".nested_absmax"].roll(turn // 256, 0),
    }


def _save(tensors: dict[str, Tensor], file: Path) -> dict[str, str]:
    save_file({name: value.clone() for name, value in tensors.items()}, file, metadata={"format": "pt"})
    return dict.fromkeys(tensors, file.name)
