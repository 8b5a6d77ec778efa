"""The recipes that come with Spry: a TOML file an experiment, found by name wherever Spry is installed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

_PREFIX, _ENDING = "recipes/", ".toml"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One recipe: ``text`` is its file, whose first line says in a comment what it is."""

    name: str
    text: str

    @property
    def about(self) -> str:
        return self.text.partition("\n")[0].lstrip("# ")

    def read(self) -> dict[str, Any]:
        return tomllib.loads(self.text)


@cache
def recipes() -> Mapping[str, Recipe]:
    """All recipes, by what a user types: ``recipes/ag-news``."""
    folder = resources.files("spry.experiment") / "recipes"
    files = {
        file.name.removesuffix(_ENDING): file for file in folder.iterdir() if file.name.endswith(_ENDING)
    }
    texts = {_PREFIX + name: files[name].read_text(encoding="utf-8") for name in sorted(files)}
    return {name: Recipe(name=name, text=text) for name, text in texts.items()}


def find_recipe(source: str | Path) -> Recipe | None:
    """Find a recipe by name, with or without ``.toml``; a file or folder of the user's that is so called wins."""
    if Path(source).exists():
        return None
    return recipes().get(Path(source).as_posix().removesuffix(_ENDING))
