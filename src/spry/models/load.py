"""Loads any model of a task's class with its tokenizer, to be shared and never written."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.models.labels import label_notes
from spry.models.model_class import CLASSIFIER, ModelClass
from spry.models.offload import Offload, Stream, stream_from_disk
from spry.models.pretrained import Pretrained, read_pretrained, read_tokenizer, take_over
from spry.models.quantized.kinds import Quantization
from spry.models.quantized.loading import finish, is_packed, packed_kind
from spry.models.sources import Source


@dataclass(frozen=True, kw_only=True, eq=False)
class Backbone:
    """A pretrained model and its tokenizer; all its weights are frozen and it is in evaluation mode.

    Args:
        newly_initialized: Names of the weights that were not in the checkpoint and were drawn from the key.
        source: Where its files are; None for a model that was given as an object.
        mismatched: Names of the weights that the checkpoint has for another number of outputs.
        label_names: What the head's outputs are, such as classes, in the order of their numbers.
        kind: Its class.
        notes: What a user should know of how it was loaded, as sentences.
        quantization: How its body was packed when it was loaded; None also for one whose files have it packed.
        stream: Reads its blocks from the disk, one at a time; None where they are in memory.
    """

    name: str
    model: Any
    tokenizer: Any
    newly_initialized: tuple[str, ...]
    source: Source | None = None
    mismatched: frozenset[str] = frozenset()
    label_names: tuple[str, ...] = ()
    kind: ModelClass = CLASSIFIER
    notes: tuple[str, ...] = ()
    quantization: Quantization | None = None
    stream: Stream | None = None

    @property
    def max_length(self) -> int:
        limit = int(min(self.tokenizer.model_max_length, 2**31))
        most = most_positions(self.model)
        return limit if most is None else min(limit, most)


def most_positions(model: nn.Module) -> int | None:
    """The most tokens of a text that a model has positions for; None if it sets no limit."""
    limits = [int(getattr(cast(Any, model).config, "max_position_embeddings", None) or 0)]
    for path, module in model.named_modules():
        padding: Any = getattr(module, "padding_idx", None)
        if path.endswith("position_embeddings") and padding is not None:
            limits.append(int(cast(Any, module).num_embeddings) - padding - 1)
    return min((limit for limit in limits if limit > 0), default=None)  # XLNet says -1: it has no limit


def load_model(
    model: str | nn.Module,
    *,
    labels: int | Sequence[str],
    key: Key,
    tokenizer: Any = None,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    kind: ModelClass = CLASSIFIER,
    quantization: Quantization | None = None,
    offload: Offload | None = None,
) -> Backbone:
    """Load a frozen model; whatever its checkpoint lacks, as a rule the head, is drawn from the key.

    A head in the checkpoint is kept if it has the right number of classes, else replaced. If it is trained on the same
    classes, they are numbered as it numbers them.

    Args:
        model: ``minilm``, ``smollm2``, ``package:NAME``, a folder, or a name on the Hub; or a Hugging Face model of the
            kind, which is taken over as it is, its head included.
        labels: The names of the head's outputs, such as classes, or their number; none where a kind does not count
            them.
        key: Where the head's weights come from: ``W ~ N(0, initializer_range^2)``, ``b = 0``.
        tokenizer: In place of the one beside the model.
        dtype: Type of the weights; None for float32, or for a given model's own.
        kind: The model's class.
        quantization: How the linear layers of the body are packed; None leaves them as the checkpoint has them. The
            model computes in ``dtype`` all the same.
        offload: Where the frozen weights stay; None reads them into memory.

    Raises:
        ModelError: If the model cannot be found or read, its weights do not fit its config, it has no tokenizer, or it
            cannot be packed in that way.
    """
    if isinstance(model, str):
        read = read_pretrained(model, labels, dtype, kind, quantization, device)
    else:
        read = take_over(model, labels, dtype, kind)
    name = read.name
    words = read_tokenizer(name, read.source) if tokenizer is None else tokenizer
    pad_notes = _set_pad(read.model, words, name)
    fresh = _redraw(read.model, read.missing, key)
    head_is_new = any(not weight.startswith(f"{read.model.base_model_prefix}.") for weight in fresh)
    notes = _head_notes(read, kind, kept=not head_is_new)
    _drop_caches(read.model)
    read.model.requires_grad_(False)
    read.model.eval()
    placed = read.model if is_packed(read.model) else read.model.to(device)
    pack_notes = finish(placed, quantization, name)
    streamed = None
    if offload == "disk":
        streamed = stream_from_disk(placed, name, dtype or torch.float32, device)
    return Backbone(
        name=name,
        model=placed,
        tokenizer=words,
        newly_initialized=fresh,
        source=read.source if isinstance(model, str) else None,
        mismatched=read.mismatched,
        label_names=read.label_names,
        kind=kind,
        notes=(*pad_notes, *notes, *pack_notes),
        quantization=quantization if isinstance(model, str) else quantization or packed_kind(placed),
        stream=streamed,
    )


def _head_notes(read: Pretrained, kind: ModelClass, *, kept: bool) -> list[str]:
    if kind.classes:
        return label_notes(
            read.name, read.label_names, read.trained_labels, kept=kept, replaced=read.head_replaced
        )
    told = f"{read.name}: its head has another number of outputs; the head for {len(read.label_names)} starts anew."
    return [told] if read.head_replaced else []


def _set_pad(model: Any, tokenizer: Any, name: str) -> list[str]:
    """Choose a pad token where there is none; says so."""
    notes: list[str] = []
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        notes.append(f"{name}: its tokenizer has no pad token; {tokenizer.pad_token!r} fills short texts.")
    if tokenizer.pad_token is None:
        raise ModelError(f"{name}: its tokenizer has no pad, end or unknown token to fill short texts with.")
    rows = _embedded_tokens(model)
    last = max(tokenizer.get_vocab().values())
    if rows is not None and last >= rows:
        raise ModelError(
            f"{name}: the tokenizer's last token is {last}, the model embeds only {rows} tokens."
        )
    model.config.pad_token_id = tokenizer.pad_token_id
    return notes


def _embedded_tokens(model: Any) -> int | None:
    """How many tokens the model knows; None for embeddings of a kind of their own."""
    try:
        return int(model.get_input_embeddings().num_embeddings)
    except (AttributeError, NotImplementedError):
        return None


def _drop_caches(model: nn.Module) -> None:
    """Keep keys and values of no pass: encoder-decoders have a configuration for each half, and a cache in each."""
    configs: list[Any] = [part.config for part in model.modules() if hasattr(part, "config")]
    for config in configs:
        if hasattr(config, "use_cache"):
            config.use_cache = False


@torch.no_grad()
def _redraw(model: nn.Module, names: Collection[str], key: Key) -> tuple[str, ...]:
    std = float(getattr(model.config, "initializer_range", None) or 0.02)
    fresh = [(name, weight) for name, weight in model.named_parameters() if name in names]
    for name, weight in fresh:
        weight.copy_(_initial(name, weight, std, key))
    return tuple(name for name, _ in fresh)


def _initial(name: str, weight: Tensor, std: float, key: Key) -> Tensor:
    if weight.dim() > 1:
        return std * key.normal(name, tuple(weight.shape))
    return torch.zeros_like(weight) if name.endswith("bias") else torch.ones_like(weight)
