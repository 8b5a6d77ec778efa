"""Configurations as TOML, which has no null: what is unset is a word."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from spry.core.errors import ConfigError
from spry.experiment.recipe import BASES
from spry.experiment.values import UNSAID


def read_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(
            f"there is no configuration {str(path)!r}. Give a TOML file or one of: {', '.join(BASES)}"
        )
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def write_toml(tree: Mapping[str, Any]) -> str:
    return tomli_w.dumps(_without_null(tree))


def _without_null(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_null(value) if isinstance(value, dict) else UNSAID if value is None else value
        for key, value in tree.items()
    }
