"""An adapter merged into its base: a plain model for transformers, which needs neither peft nor Spry."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.inference.loading import load_predictor
from spry.inference.predictor import Predictor
from spry.models.pretrained import quiet
from spry.models.refusal import refused_as
from spry.tasks.adapter_info import read_info
from spry.tasks.card import write_merged_card

_TOLERANCE = 1e-4
"""How far scores of the merged model may lie from the adapter's, relative to the largest."""


def check_empty(out: Path) -> None:
    """Refuse (ModelError) a folder that holds something already."""
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise ModelError(f"{out} exists and is not empty. Choose another folder.")


def copy_adapter(folder: Path, out: Path) -> None:
    """Copy an adapter's folder, its base's weights too where they are in it."""
    check_empty(out)
    shutil.copytree(folder, out, dirs_exist_ok=True)


def merge_adapter(folder: Path, out: Path, *, base: Path | None = None) -> tuple[str, ...]:
    """Write the model that an adapter and its base make together; returns notes for the user.

    The weights are added up in float32 at least, and written in the type that the adapter was trained in.

    Raises:
        ModelError: If ``out`` is not empty, or peft cannot merge this kind of adapter.
    """
    check_empty(out)
    wanted = getattr(torch, read_info(folder).dtype)
    wide = torch.promote_types(wanted, torch.float32)
    predictor = load_predictor(folder, base=base, dtype=str(wide).removeprefix("torch."), unpacked=True)
    merged = _merged(predictor, folder)
    out.mkdir(parents=True, exist_ok=True)
    if predictor.info.base.gguf:
        _forget_gguf(merged)
    written = merged.to(wanted)
    written.config.dtype = wanted
    with quiet():
        written.save_pretrained(out)
        predictor.tokenizer.save_pretrained(out)
    (out / "README.md").write_text(write_merged_card(predictor.info, predictor.kind), encoding="utf-8")
    return predictor.notes


def _merged(predictor: Predictor, folder: Path) -> Any:
    kind = type(predictor.model.active_peft_config).__name__
    before = predictor.raw(_probe(predictor))
    remedy = "Ship the adapter's folder as it is: spry export DIR OUT."
    with quiet(), refused_as(f"{folder}: peft cannot merge the adapter ({kind}) into its base", remedy):
        merged = _unwrapped(predictor.model.merge_and_unload())
    after = replace(predictor, model=merged).raw(_probe(predictor))
    if abs(after - before).max() > _TOLERANCE * max(1.0, abs(before).max()):
        raise ModelError(
            f"{folder}: merged into its base, the adapter ({kind}) gives other scores than beside it. {remedy}"
        )
    return merged


def _forget_gguf(model: Any) -> None:
    """Let a model be saved whose weights came out of a gguf file: they are plain numbers by now."""
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def _unwrapped(model: Any) -> Any:
    """Put the trained layers in the place of what holds them beside the old ones, which some kinds leave there."""
    from peft.utils.other import ModulesToSaveWrapper

    for name, module in list(model.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):
            model.set_submodule(name, module.modules_to_save[module.active_adapters[0]])
    return model


def _probe(predictor: Predictor) -> Sequence[Any]:
    """A few inputs by which two models are compared, as the task has them."""
    texts = ["This is a text.", "And this is another one, which is a little longer than the first."]
    draw = Key(0).generator("probe")
    return predictor.kind.probe(texts, len(predictor.info.labels), draw).texts
