"""Reads what a checkpoint has: weights, class names and tokenizer, and which weights it lacks."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from spry.core.errors import ModelError, first_line
from spry.data.reach import PATIENCE, why_unreachable
from spry.models.labels import checkpoint_labels, order_labels
from spry.models.model_class import CLASSIFIER, ModelClass
from spry.models.quantized.kinds import Quantization
from spry.models.quantized.loading import is_packed, loading_arguments
from spry.models.refusal import refused_as
from spry.models.settle import settle
from spry.models.sources import Source, find_source


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A model as its checkpoint has it.

    Args:
        source: Where its tokenizer is.
        label_names: The outputs of the task's head, such as its classes, in the order of their numbers.
        trained_labels: The checkpoint's classes, if it says.
        missing: Weights that the checkpoint lacks, or has for another number of outputs.
        mismatched: Those of them that it has for another number of outputs.
    """

    name: str
    source: Source
    model: Any
    label_names: tuple[str, ...]
    trained_labels: tuple[str, ...] | None
    missing: frozenset[str] = frozenset()
    mismatched: frozenset[str] = frozenset()

    @property
    def head_replaced(self) -> bool:
        """Whether the checkpoint's head is for another number of outputs."""
        return any(not weight.startswith(f"{self.model.base_model_prefix}.") for weight in self.mismatched)


def read_pretrained(
    model: str,
    labels: int | Sequence[str],
    dtype: torch.dtype | None,
    kind: ModelClass = CLASSIFIER,
    quantization: Quantization | None = None,
    device: str | torch.device = "cpu",
) -> Pretrained:
    source, dtype = find_source(model), dtype or torch.float32
    with quiet(), torch.random.fork_rng(devices=[]):
        config = read_model_config(model, source, kind)
        trained = checkpoint_labels(config) if kind.classes else None
        names = order_labels(labels, trained)
        packing = loading_arguments(model, config, source, kind, quantization, dtype, device)
        loaded, info = _read_model(model, source, names, dtype, kind, packing)
    settle(loaded)
    mismatched = frozenset(entry if isinstance(entry, str) else entry[0] for entry in info["mismatched_keys"])
    missing = frozenset(info["missing_keys"]) | mismatched
    check_pretrained(loaded, missing, model, gguf=source.gguf is not None)
    if not kind.trains_head:
        _check_head(loaded, missing, model, kind)
    return Pretrained(
        name=model,
        source=source,
        model=loaded,
        label_names=names,
        trained_labels=trained,
        missing=missing,
        mismatched=mismatched,
    )


def take_over(
    model: Any, labels: int | Sequence[str], dtype: torch.dtype | None, kind: ModelClass = CLASSIFIER
) -> Pretrained:
    config = getattr(model, "config", None)
    name = getattr(config, "_name_or_path", "") or type(model).__name__
    count = labels if isinstance(labels, int) else len(labels)
    counted = not kind.counted or getattr(config, "num_labels", None) == count
    own = kind.classes and not type(model).__module__.startswith(
        "transformers."
    )  # a class that its user wrote
    fits = counted and (own or _is(model, kind))
    if not fits or not hasattr(model, "base_model_prefix"):
        of, given = (f" of {count} classes", f"..., num_labels={count}") if kind.counted else ("", "...")
        raise ModelError(
            f"{name}: is no Hugging Face {kind.what}{of}. Give one made with {kind.auto}.from_pretrained({given}), or "
            "the name of a model."
        )
    trained = checkpoint_labels(config) if kind.classes else None
    names = order_labels(labels, trained)
    if kind.counted:
        model.config.id2label, model.config.label2id = _numbered(names)
    taken = model if dtype is None or is_packed(model) else model.to(dtype)
    settle(taken)
    return Pretrained(
        name=name, source=Source(path=name), model=taken, label_names=names, trained_labels=trained
    )


def _is(model: Any, kind: ModelClass) -> bool:
    return type(model) in set(kind.known.values())


def _numbered(names: Sequence[str]) -> tuple[dict[int, str], dict[str, int]]:
    return dict(enumerate(names)), {name: number for number, name in enumerate(names)}


def read_model_config(model: str, source: Source, kind: ModelClass = CLASSIFIER) -> Any:
    from transformers import AutoConfig

    if source.gguf and importlib.util.find_spec("gguf") is None:
        raise ModelError(f"{model}: a gguf file needs another package. Run: pip install 'spry-fl[gguf]'")
    with _loading(model, source, kind):
        config = AutoConfig.from_pretrained(source.path, **_arguments(source))
    if type(config) not in kind.known and not getattr(config, "auto_map", None):
        raise ModelError(
            f"{model}: cannot be loaded as a {kind.what}, which transformers does not have for models of the "
            f"type {config.model_type!r}. Choose another model, such as {kind.usual}."
        )
    return config


def _read_model(
    model: str,
    source: Source,
    names: Sequence[str],
    dtype: torch.dtype,
    kind: ModelClass,
    packing: Mapping[str, Any],
) -> tuple[Any, dict[str, Any]]:
    id2label, label2id = _numbered(names)
    outputs = {"num_labels": len(names), "id2label": id2label, "label2id": label2id} if kind.counted else {}
    with _loading(model, source, kind):
        return kind.loader.from_pretrained(
            source.path,
            **outputs,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            dtype=dtype,
            **packing,
            **_arguments(source),
        )


def _arguments(source: Source) -> dict[str, Any]:
    """What ``from_pretrained`` is given; unless told, it asks on the terminal whether a model's code may run."""
    out_of_reach = not Path(source.path).is_dir() and _is_out_of_reach(source.path)
    return {**source.arguments, "trust_remote_code": False, "local_files_only": out_of_reach}


@cache
def _is_out_of_reach(name: str) -> bool:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return True
    return why_unreachable(lambda hub: hub.model_info(name, timeout=PATIENCE)) is not None


ON_THIS_MACHINE = "Look whether its files are whole and belong together, as `save_pretrained` writes them."
ON_THE_HUB = "Give a model folder; for a name on the Hub, a network or a copy in the local cache is needed."
OF_ITS_OWN = "Spry runs no code that comes with a model: choose one of a type that transformers has."


@contextmanager
def _loading(model: str, source: Source, kind: ModelClass) -> Generator[None]:
    tried = f"{model}: cannot be loaded as a {kind.what}"
    with refused_as(tried, ON_THIS_MACHINE if Path(source.path).is_dir() else ON_THE_HUB):
        try:
            yield
        except ImportError as error:
            raise ModelError(f"{model}: needs another package ({first_line(error)}). Install it") from error
        except ValueError as error:
            if "custom code" not in str(error):
                raise
            raise ModelError(f"{tried}: it needs code of its own. {OF_ITS_OWN}") from error


def read_tokenizer(name: str, source: Source) -> Any:
    from transformers import AutoTokenizer

    remedy = "Save it into the model's folder with `tokenizer.save_pretrained`, or give it as `tokenizer`."
    with quiet(), refused_as(f"{name}: has no usable tokenizer", remedy):
        tokenizer = AutoTokenizer.from_pretrained(source.path, **_arguments(source))
        if len(tokenizer) <= len(set(tokenizer.all_special_ids)):  # what transformers makes of a missing file
            raise ValueError("it knows no words")
    return tokenizer


def check_pretrained(model: Any, missing: Iterable[str], name: str, *, gguf: bool = False) -> None:
    lost = sorted(
        weight
        for weight in missing
        if weight.startswith(f"{model.base_model_prefix}.") and "pooler" not in weight.split(".")
    )
    if lost:
        doubt = "Is the file whole?" if gguf else "Do the weights belong to this config.json?"
        raise ModelError(
            f"{name}: {len(lost)} pretrained weights are missing or have the wrong shape, such as {lost[0]}. {doubt}"
        )


def _check_head(model: Any, missing: Collection[str], name: str, kind: ModelClass) -> None:
    """Refuse a head that would be drawn at random and never trained; a bias that lacks is zero."""
    lost = sorted(path for path, weight in model.named_parameters() if path in missing and weight.dim() > 1)
    if lost:
        raise ModelError(
            f"{name}: is no whole {kind.what}: {lost[0]} is missing, and is not trained. Give the whole model, as "
            f"{kind.auto} loads it, or choose another, such as {kind.usual}."
        )


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
