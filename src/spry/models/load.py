"""Loads any ``AutoModelForSequenceClassification`` with its tokenizer, to be shared and never written."""

from __future__ import annotations

import io
from collections.abc import Generator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.models.sources import Source, find_source


@dataclass(frozen=True, kw_only=True, eq=False)
class Backbone:
    """A pretrained classifier and its tokenizer; all its weights are frozen and it is in evaluation mode.

    Args:
        newly_initialized: Names of the weights that were not in the checkpoint and were drawn from the key.
        label_names: The classes' names, in the order of their numbers.
        notes: What a user should know of how it was loaded, as sentences.
    """

    name: str
    model: Any
    tokenizer: Any
    newly_initialized: tuple[str, ...]
    label_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def max_length(self) -> int:
        limit = int(min(self.tokenizer.model_max_length, 2**31))
        limit = min(limit, getattr(self.model.config, "max_position_embeddings", None) or limit)
        for path, module in self.model.named_modules():
            if path.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
                limit = min(limit, module.num_embeddings - module.padding_idx - 1)
        return limit


def load_model(
    model: str,
    *,
    labels: int | Sequence[str],
    key: Key,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> Backbone:
    """Load a frozen classifier; whatever its checkpoint lacks, as a rule the head, is drawn from the key.

    A head in the checkpoint is kept if it has the right number of classes, else replaced: ``W ~ N(0,
    initializer_range^2)``, ``b = 0``.

    Args:
        model: ``minilm``, ``smollm2``, ``package:NAME``, a folder, or a name on the Hub.
        labels: The classes' names, or their number; at least 2.
    """
    names = [str(label) for label in range(labels)] if isinstance(labels, int) else list(labels)
    assert len(names) >= 2, names
    source = find_source(model)
    trained_on = trained_labels(model)
    with quiet(), torch.random.fork_rng(devices=[]):
        loaded, info = _read_model(model, source, names, dtype)
        tokenizer = _read_tokenizer(model, source)
    pad_note = _set_pad(loaded, tokenizer, model)
    fresh = _redraw(loaded, _missing(loaded, info, model), key)
    notes = [*pad_note, *_label_notes(model, names, trained_on, head_is_new=_head_is_new(loaded, fresh))]
    loaded.config.use_cache = False
    loaded.requires_grad_(False)
    loaded.eval()
    return Backbone(
        name=model,
        model=loaded.to(device),
        tokenizer=tokenizer,
        newly_initialized=fresh,
        label_names=tuple(names),
        notes=tuple(notes),
    )


def _read_model(
    model: str, source: Source, names: Sequence[str], dtype: torch.dtype
) -> tuple[Any, dict[str, Any]]:
    from transformers import AutoModelForSequenceClassification

    try:
        return AutoModelForSequenceClassification.from_pretrained(
            source.path,
            num_labels=len(names),
            id2label=dict(enumerate(names)),
            label2id={name: place for place, name in enumerate(names)},
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            dtype=dtype,
            **source.arguments,
        )
    except ImportError as error:
        raise ModelError(
            f"{model}: needs another package ({error}). For gguf: pip install 'spry-fl[decoder]'"
        ) from error
    except Exception as error:  # the loaders below raise errors of many unrelated types
        raise ModelError(
            f"{model}: cannot be loaded as a sequence classifier ({_first_line(error)}). Give a model "
            "folder; for a name on the Hub, a network or a copy in the local cache is needed."
        ) from error


def _read_tokenizer(model: str, source: Source) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source.path, **source.arguments)
        if len(tokenizer) <= len(set(tokenizer.all_special_ids)):  # what transformers makes of a missing file
            raise ValueError("it knows no words")
    except Exception as error:  # as above
        raise ModelError(
            f"{model}: has no usable tokenizer ({_first_line(error)}). Save it into the model's folder with "
            "`tokenizer.save_pretrained`."
        ) from error
    return tokenizer


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


def _head_is_new(model: Any, fresh: Sequence[str]) -> bool:
    return any(not name.startswith(f"{model.base_model_prefix}.") for name in fresh)


def trained_labels(model: str) -> tuple[str, ...] | None:
    """Read the classes that a checkpoint's head was trained on, in the order of their numbers.

    None if it names none, as base models and generic heads (``LABEL_0``, ...) do.
    """
    from transformers import AutoConfig

    source = find_source(model)
    try:
        with quiet():
            config = AutoConfig.from_pretrained(source.path, **source.arguments)
    except Exception:  # loading the model itself will tell
        return None
    names = getattr(config, "id2label", None) or {}
    told = tuple(str(names[number]) for number in sorted(names))
    return None if all(name == f"LABEL_{number}" for number, name in enumerate(told)) else told


def _label_notes(
    name: str, labels: Sequence[str], trained_on: Sequence[str] | None, *, head_is_new: bool
) -> list[str]:
    """Say what became of a trained head whose classes are not the data's."""
    if trained_on is None or set(trained_on) == set(labels):
        return []
    told = ", ".join(trained_on[:10])
    if head_is_new:
        return [
            f"{name}: its head was trained on {len(trained_on)} classes ({told}), the data has {len(labels)}; the head "
            "starts anew."
        ]
    return [
        f"{name}: its head was trained on classes of other names ({told}); the data's are numbered in this order: "
        f"{', '.join(labels[:10])}."
    ]


def _missing(model: Any, info: dict[str, Any], name: str) -> set[str]:
    mismatched = {entry if isinstance(entry, str) else entry[0] for entry in info["mismatched_keys"]}
    missing = set(info["missing_keys"]) | mismatched
    lost = sorted(
        weight
        for weight in missing
        if weight.startswith(f"{model.base_model_prefix}.") and "pooler" not in weight.split(".")
    )
    if lost:
        raise ModelError(
            f"{name}: {len(lost)} pretrained weights are missing or have the wrong shape, such as {lost[0]}. "
            "Do the weights belong to this config.json?"
        )
    return missing


@torch.no_grad()
def _redraw(model: nn.Module, names: set[str], key: Key) -> tuple[str, ...]:
    std = float(getattr(model.config, "initializer_range", None) or 0.02)
    fresh = [(name, weight) for name, weight in model.named_parameters() if name in names]
    for name, weight in fresh:
        weight.copy_(_initial(name, weight, std, key))
    return tuple(name for name, _ in fresh)


def _initial(name: str, weight: Tensor, std: float, key: Key) -> Tensor:
    if weight.dim() > 1:
        return std * key.normal(name, tuple(weight.shape))
    return torch.zeros_like(weight) if name.endswith("bias") else torch.ones_like(weight)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def quiet() -> Generator[None]:
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with redirect_stderr(io.StringIO()):  # the bars of gguf files obey no switch
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
