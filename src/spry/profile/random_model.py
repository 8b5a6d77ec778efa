"""Models with random weights, laid out by a shape or by the configuration of one's own model.

Memory and time do not depend on the values of the weights, so measuring needs the architecture alone: nothing is
downloaded, and no file of weights is read. A model is laid out on the meta device and then filled weight by weight,
in its own dtype or quantised at once: no full-precision copy of it ever exists, so Llama2-7B in 4 bits is built
within its own 3.6 GB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.models.load import most_positions
from spry.models.model_class import CLASSIFIER, ModelClass
from spry.models.pretrained import read_model_config
from spry.models.quantized.kinds import Quantization
from spry.models.refusal import refused_as
from spry.models.targets import endings, find_targets, linear_names
from spry.profile.random_weights import fill_randomly
from spry.profile.resolve import Resolved, resolve_model
from spry.tasks.causal_lm.kind import LANGUAGE_MODEL

LENGTH = 512
"""Tokens of a row if nothing is said."""
USUAL_OUTPUTS = 4
"""Outputs of a head if nothing is said: as many as AG News has classes."""

_KEY = Key(0)


_DEPTHS = ("num_hidden_layers", "num_decoder_layers", "decoder_layers")
"""The settings of a depth; ``num_hidden_layers`` stands for whatever a family calls it."""


def build_model(
    name: str,
    *,
    layers: int | None = None,
    length: int = LENGTH,
    head: ModelClass = CLASSIFIER,
    outputs: int = USUAL_OUTPUTS,
    targets: Sequence[str] = (),
    rank: int = 1,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    quantization: Quantization | None = None,
    attention: str | None = None,
    key: Key = _KEY,
) -> nn.Module:
    """Build a model with random weights and LoRA on its query and value projections.

    Dropout is off everywhere, the key-value cache too. LoRA's up-projections are random as well: at PEFT's
    own start, zero, half of the slopes would be zero.

    Args:
        name: What ``resolve_model`` understands: one's own model, or a shape.
        layers: Depth; None for its own.
        length: Positions that the model must offer, in tokens; raises a shape's maximum if needed.
        head: The class of the model, whose head is trained unless it is a language model's.
        outputs: Of the head, where they are counted.
        targets: Names or endings of names of the modules to adapt; none finds query and value projections.
        rank: LoRA's r (and alpha), >= 1.
        device: Where the weights live; ``meta`` for the layout alone.
        dtype: Of the frozen weights, and of the arithmetic of a packed model.
        quantization: How the linear layers of the body are packed; None leaves them as they are.
        attention: Which implementation, as transformers names it; None takes the best one that the model has.

    Raises:
        ConfigError: If there is no such shape, the model has no such head, or it takes fewer tokens.
        ModelError: If the model cannot be found, its configuration cannot be read, it has no such targets, or it cannot
            be packed in that way.
    """
    from peft import get_peft_model

    device = torch.device(device)
    model = _laid_out(name, layers, length, head, outputs, attention, dtype)
    seed = int(key.generator("shapes").integers(1 << 62))
    generator = None if device.type == "meta" else torch.Generator(device).manual_seed(seed)
    fill_randomly(model, device, dtype, generator, quantization)
    wrapped = get_peft_model(cast(Any, model), _lora(name, model, resolve_model(name), targets, head, rank))
    with torch.no_grad():
        for weight in wrapped.parameters():
            if weight.requires_grad:
                weight.normal_(0.0, 0.02, generator=generator)
    return wrapped.eval()


def usual_length(name: str, head: ModelClass = CLASSIFIER) -> int:
    """512 tokens, or fewer where one's own model takes fewer."""
    if resolve_model(name).architecture is not None:
        return LENGTH
    return min(LENGTH, most_positions(_laid_out(name, head=head)) or LENGTH)


def example_batch(model: nn.Module, batch: int, length: int, key: Key = _KEY) -> dict[str, Tensor]:
    """Draw B = ``batch`` full rows of S = ``length`` random tokens, with labels for the model's head.

    ``input_ids`` and ``attention_mask`` have shape (B, S), ``labels`` shape (B,), or (B, S) for a language model.
    """
    wrapped = cast(Any, model)
    draw = key.generator("example")
    device = next(model.parameters()).device
    words = wrapped.config.vocab_size
    tokens = torch.from_numpy(draw.integers(min(10, words // 2), words, (batch, length)))
    if wrapped.config.is_encoder_decoder:  # its head reads the position of the last end token
        end = wrapped.config.eos_token_id
        tokens[tokens == end] = (end + 1) % words
        tokens[:, -1] = end
    tokens = tokens.to(device)
    language = wrapped.peft_config["default"].task_type == "CAUSAL_LM"
    labels = tokens.clone() if language else torch.from_numpy(draw.integers(0, 4, (batch,))).to(device)
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}


def _laid_out(
    name: str,
    layers: int | None = None,
    length: int = 1,
    head: ModelClass = CLASSIFIER,
    outputs: int = USUAL_OUTPUTS,
    attention: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> nn.Module:
    """A model on the meta device, without values."""
    from accelerate import init_empty_weights

    named = resolve_model(name)
    config = _shape(named, length) if named.architecture else _own(named, name, head)
    _check_head(name, config, head)
    if config.pad_token_id is None:
        config.pad_token_id = 0
    config.num_labels, config.use_cache = outputs, False
    for setting, value in config.to_dict().items():
        if (
            "drop" in setting and type(value) is float
        ):  # dropout, pdrop, layerdrop: each family has names of its own
            setattr(config, setting, 0.0)
    if layers is not None:
        _set_depth(config, layers)
    remedy = "Measure a shape like it, such as shape:bert-base."
    with init_empty_weights(), refused_as(f"{name}: cannot be laid out with random weights", remedy):
        model = head.loader.from_config(config, attn_implementation=attention, dtype=dtype)
    most = most_positions(model)
    if most is not None and length > most:
        raise ConfigError(
            f"{length} tokens an example are asked for. Allowed: 1 to {most}, the most that {name} takes"
        )
    return model


def _shape(named: Resolved, length: int) -> Any:
    from transformers import AutoConfig

    shape = named.architecture
    assert shape is not None
    config: Any = AutoConfig.for_model(shape.family, **shape.sizes)
    if getattr(config, "max_position_embeddings", 1 << 30) < length + 2:
        config.max_position_embeddings = length + 2  # RoBERTa counts two more than the tokens
    return config


def _own(named: Resolved, name: str, head: ModelClass) -> Any:
    assert named.source is not None
    return read_model_config(name, named.source, head)


def _check_head(name: str, config: Any, head: ModelClass) -> None:
    goes_on = head.auto == LANGUAGE_MODEL.auto
    if type(config) not in head.known or (goes_on and _reads_both_ways(config)):
        raise ConfigError(
            f"{name} cannot be a {head.what}: transformers has none of the type {config.model_type!r}. Measure another "
            f"task, or another model, such as shape:{'llama-1k' if goes_on else 'bert-base'}."
        )


def _reads_both_ways(config: Any) -> bool:
    """Tell an encoder, which transformers would make a decoder of by a setting."""
    return hasattr(config, "is_decoder") and hasattr(config, "type_vocab_size") and not config.is_decoder


def _set_depth(config: Any, layers: int) -> None:
    for setting in _DEPTHS:
        if hasattr(config, setting):
            setattr(config, setting, layers)
    kinds = getattr(config, "layer_types", None)
    if kinds:  # one for each layer
        config.layer_types = [kinds[layer % len(kinds)] for layer in range(layers)]


def _lora(
    name: str, model: nn.Module, named: Resolved, wanted: Sequence[str], head: ModelClass, rank: int
) -> Any:
    from peft import LoraConfig

    known = named.architecture.targets if named.architecture else None
    prefix = cast(Any, model).base_model_prefix
    remedy = "Name modules with --targets."
    with refused_as(f"{name}: peft cannot add LoRA to it", remedy):
        found = [f"{prefix}.{target}" for target in find_targets(getattr(model, prefix), wanted or known)]
        linears = linear_names(model)
        outside = [
            child
            for child, module in model.named_children()
            if child != prefix and any(True for _ in module.parameters())
        ]
        return LoraConfig(
            r=rank,
            lora_alpha=rank,
            lora_dropout=0.0,
            target_modules=endings(found, linears),
            fan_in_fan_out=not any(isinstance(linears[target], nn.Linear) for target in found),
            task_type=cast(Any, head.peft_task),
            modules_to_save=sorted({*outside} - head.peft_heads) if head.trains_head else None,
        )
