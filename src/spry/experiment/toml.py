"""Configurations as TOML, which has no null: what is unset is a word."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from spry.core.errors import ConfigError
from spry.experiment.cookbook import recipes
from spry.experiment.recipe import BASES
from spry.experiment.values import UNSAID


def read_toml(path: Path) -> dict[str, Any]:
    if path.is_dir():
        inside = path / "config.toml"
        raise ConfigError(
            f"{path} is a folder. Give a TOML file" + (f", such as {inside}" if inside.is_file() else "")
        )
    if not path.is_file():
        meant = difflib.get_close_matches(path.as_posix(), [*BASES, *recipes()], n=1)
        guess = f" Did you mean {meant[0]!r}?" if meant else ""
        raise ConfigError(
            f"there is no configuration {str(path)!r}.{guess} Give a TOML file, one of: {', '.join(BASES)}, or a "
            "recipe that spry recipes lists"
        )
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))  # editors on Windows begin with a mark
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start}). Save it as UTF-8") from error


def write_toml(tree: Mapping[str, Any]) -> str:
    return tomli_w.dumps(_without_null(tree))


def _without_null(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_null(value) if isinstance(value, dict) else UNSAID if value is None else value
        for key, value in tree.items()
    }
