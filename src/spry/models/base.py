"""The base model in an adapter's folder, so that the folder can be loaded by whoever has nothing else.

A base that is on the Hub is named, with its revision. Of any other, the weights lie in ``base/``: as hard links, which
take no room, where the disk allows it. The files beside the adapter that make it a whole model for ``transformers``
(``config.json`` and an index that points into ``base/``) let ``pipeline(model=FOLDER)`` load it, adapter and all.
"""

from __future__ import annotations

import copy
import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from spry.models.hashes import folder_of, hash_files, hash_weights, weight_files
from spry.models.load import Backbone
from spry.models.quantized.kinds import Quantization
from spry.models.quantized.layers import has_packed
from spry.models.sources import FRIENDLY, Source

BASE = "base"
"""The folder of the base model in an adapter's folder."""
_CONFIG, _INDEX = "config.json", "model.safetensors.index.json"
_SINGLE = ("model.safetensors", "pytorch_model.bin")
"""Files that hold all weights, so that no other file is read."""
_WEIGHTS, _HEAD = "pretrained.safetensors", "head.safetensors"
"""The base's weights, and those that it lacks: as they were drawn, so that nothing seems to be missing.

The adapter has a head of its own. The weights are not called ``model.safetensors``, so that the index is read.
"""
LARGEST_COPY = 2 * 2**30
"""Bytes of weights that are copied where no link can be made; more are left out."""


class BaseRecord(BaseModel):
    """How the base model of an adapter is loaded.

    Args:
        name: A friendly name, ``package:NAME``, a name on the Hub, or the name of a folder, without its path.
        place: Whether its weights are in ``base/``, on the Hub, or have to be brought along.
        gguf: The file with the weights, if they are in that format.
        files: Hashes of the weights' files by name, or of the loaded weights where there are no files.
        head_replaced: Whether those files have a head for another number of classes, which is not read.
        quantization: How its body is packed when it is loaded; None leaves it as its files have it.
        whole: Whether ``transformers`` loads the adapter's folder as one model.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    place: Literal["folder", "hub", "elsewhere"]
    revision: str | None = None
    gguf: str | None = None
    files: Mapping[str, str] = {}
    head_replaced: bool = False
    quantization: Quantization | None = None
    whole: bool = False


def write_base(backbone: Backbone, module: Any, folder: Path) -> BaseRecord:
    """Write the base's configuration and, unless it is on the Hub, its weights, beside an adapter that is there."""
    shutil.rmtree(folder / BASE, ignore_errors=True)
    (folder / BASE).mkdir()
    for name in (_CONFIG, _INDEX):
        (folder / name).unlink(missing_ok=True)
    config = copy.deepcopy(module.get_base_model().config)
    if backbone.kind.problem is not None:
        config.problem_type = backbone.kind.problem  # whatever the checkpoint was trained for
    from_gguf = backbone.source is not None and backbone.source.gguf is not None
    if (from_gguf or backbone.quantization) and hasattr(config, "quantization_config"):
        del config.quantization_config  # the files' weights are plain, or will be when they are loaded
    config.to_json_file(folder / BASE / _CONFIG)
    found = _written(backbone, module, folder / BASE)
    whole = found.place == "folder" and found.gguf is None and _can_be_whole(module)
    if found.place == "folder" and found.gguf is None:
        _write_index(folder / BASE, folder / BASE)
    if whole:
        shutil.copyfile(folder / BASE / _CONFIG, folder / _CONFIG)
        _write_index(folder / BASE, folder)
    _point_to(found, folder)
    return found.model_copy(update={"whole": whole})


def _written(backbone: Backbone, module: Any, base: Path) -> BaseRecord:
    source, name = backbone.source, portable_name(backbone)
    packed = has_packed(module)  # then what is in memory is not what files hold
    if source is None:
        if packed:
            return BaseRecord(
                name=name,
                place="elsewhere",
                files=hash_base(backbone, module),
                quantization=backbone.quantization,
            )
        _save(base_weights(module), base)
        return BaseRecord(name=name, place="folder", files=hash_base(backbone, module))
    files = loaded_files(source)
    record = BaseRecord(
        name=name,
        place="folder",
        gguf=source.gguf,
        files=hash_base(backbone, module),
        head_replaced=bool(backbone.mismatched),
        quantization=backbone.quantization,
    )
    if not Path(source.path).is_dir():
        return record.model_copy(update={"place": "hub", "revision": revision_of(source)})
    old = source.gguf is None and any(file.suffix != ".safetensors" for file in files)
    if old and not packed:
        _save(base_weights(module), base)
        return record
    if old or not _put(files, base, backbone.mismatched):
        return record.model_copy(update={"place": "elsewhere"})
    if source.gguf is None and backbone.newly_initialized:
        own = base_weights(module)
        _save({name: own[name] for name in backbone.newly_initialized if name in own}, base, _HEAD)
    return record


def hash_base(backbone: Backbone, module: Any) -> dict[str, str]:
    """Hash the base's weights: their files by name, or the loaded weights where they come from no files."""
    if backbone.source is None:
        plain = {n: w for n, w in base_weights(module).items() if type(w) in {Tensor, nn.Parameter}}
        return {"weights": hash_weights(plain.items())}  # a packed weight's bytes depend on its package
    return hash_files({file.name: file for file in loaded_files(backbone.source)})


def portable_name(backbone: Backbone) -> str:
    """Name a model so that the name means something on another machine."""
    name = backbone.name
    named = name in FRIENDLY or name.startswith("package:")
    on_hub = backbone.source is not None and not Path(backbone.source.path).is_dir()
    return name if named or on_hub else Path(name).name


def loaded_files(source: Source) -> list[Path]:
    """List the files that transformers reads of a model's weights."""
    files = weight_files(source)
    return [file for file in files if file.name in _SINGLE] or files


def revision_of(source: Source) -> str | None:
    """The commit of a model of the Hub, as the local cache has it."""
    folder = folder_of(source)
    return source.revision or (folder.name if folder is not None else None)


def base_weights(module: Any) -> dict[str, Tensor]:
    """Read the base's own weights, by their own names, out of a ``PeftModel``."""
    base = module.get_base_model()
    with torch.device("meta"):
        names = set(type(base)(base.config).state_dict())
    own = {
        name.replace(".base_layer.", ".").replace(".original_module.", "."): weight
        for name, weight in base.state_dict().items()
    }
    return {name: weight for name, weight in own.items() if name in names}


def _save(weights: Mapping[str, Tensor], base: Path, name: str = _WEIGHTS) -> None:
    apart = {
        name: weight.detach().cpu().clone().contiguous() for name, weight in weights.items()
    }  # some are tied
    save_file(apart, base / name, metadata={"format": "pt"})


def _put(files: Sequence[Path], base: Path, left_out: Iterable[str]) -> bool:
    """Bring files of weights into a folder, without some tensors; false if they are too large."""
    for file in files:
        target = base / (_WEIGHTS if file.name in _SINGLE else file.name)
        unwanted = _tensors(file) & set(left_out) if file.suffix == ".safetensors" else set[str]()
        if unwanted:
            _save_without(file, target, unwanted)
        elif not bring(file, target, largest=LARGEST_COPY / len(files)):
            return False
    return True


def bring(file: Path, target: Path, *, largest: float = math.inf) -> bool:
    """Link a file, or copy it where it cannot be linked and is not too large; false if it is."""
    try:
        os.link(file.resolve(), target)
    except OSError:
        if file.stat().st_size > largest:
            return False
        shutil.copyfile(file, target)
    return True


def _tensors(file: Path) -> set[str]:
    with safe_open(file, framework="pt") as content:
        return set(content.keys())


def _save_without(file: Path, target: Path, unwanted: Iterable[str]) -> None:
    with safe_open(file, framework="pt") as content:
        kept = {name: content.get_tensor(name) for name in set(content.keys()) - set(unwanted)}
        save_file(kept, target, metadata=content.metadata())


def _can_be_whole(module: Any) -> bool:
    """Whether ``transformers`` can add an adapter of this kind by itself.

    It cannot if layers share weights, and it silently leaves DoRA's magnitudes out.
    """
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING as TUNERS

    config = module.active_peft_config
    shared = getattr(TUNERS.get(config.peft_type), "uses_shared_state", config.peft_type == "VERA")
    return not shared and not getattr(config, "use_dora", False)


def _write_index(base: Path, folder: Path) -> None:
    """Say in which file each tensor is, as seen from a folder; transformers reads no file that is not named."""
    files = sorted(base.glob("*.safetensors"))
    places = {name: str(file.relative_to(folder)) for file in files for name in sorted(_tensors(file))}
    size = sum(file.stat().st_size for file in files)
    _write(folder / _INDEX, {"metadata": {"total_size": size}, "weight_map": places})


def _point_to(found: BaseRecord, folder: Path) -> None:
    """Let ``peft`` find the base: by its name, or relative to the adapter's folder."""
    target = folder / "adapter_config.json"
    config = json.loads(target.read_text(encoding="utf-8"))
    name = BASE if found.place == "folder" else found.name
    _write(target, {**config, "base_model_name_or_path": name, "revision": found.revision})


def _write(target: Path, content: Mapping[str, Any]) -> None:
    target.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
