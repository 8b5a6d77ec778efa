"""What a configuration rests on: recipes that come with Spry, and layers of settings of which a later one wins.

A layer has settings by dotted key. ``client.lr`` is for all methods, ``methods.spry.client.lr`` for one. What a later
layer says for all takes the place of what an earlier one says for one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any, Literal, get_args

from spry.core.errors import ConfigError
from spry.experiment.retired import RETIRED_METHODS
from spry.federated.methods import find_method

Base = Literal["quickstart", "paper", "plain"]
BASES: tuple[Base, ...] = get_args(Base)
PLAIN: Base = "plain"
"""Rests on nothing: what is not said is what each setting and each method is by itself."""
DEFAULT_BASE: Base = "quickstart"
"""What a configuration rests on that does not say."""
PRESETS: tuple[Base, ...] = tuple(base for base in BASES if base != PLAIN)
Layer = dict[str, Any]

ONE_VALUE = ("tune.grid", "tune.methods.")
"""Settings, or beginnings of settings, whose table is one value."""
DEALING = frozenset(f"data.{key}" for key in ("partition", "alpha", "clients", "held_out", "validation"))
"""How examples are dealt, which is said for any data; the rest of the table describes the data set that it names."""


def describes_data(key: str) -> bool:
    """Tell whether a setting describes the data set that a recipe names, and so is not for other data."""
    return key.startswith("data.") and key not in {*DEALING, "data.name"}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Layer:
    """Bring nested tables under dotted keys that begin with ``prefix``, such as ``{"client.lr": 1e-3}``."""
    flat: Layer = {}
    for name, value in tree.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def as_layer(tree: Mapping[str, Any]) -> Layer:
    """Bring the tables of a file under dotted keys, but keep whole what is one value, and tables that are empty."""
    return dict(_leaves(tree, ""))


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        key = prefix + name
        whole = key == ONE_VALUE[0] or key.startswith(ONE_VALUE[1])
        if isinstance(value, dict) and value and not whole:
            yield from _leaves(value, f"{key}.")
        else:
            yield key, value


@cache
def preset(base: Base) -> Mapping[str, Any]:
    """The settings of a recipe, by dotted key."""
    if base == PLAIN:
        return {}
    text = (resources.files("spry.experiment") / "presets" / f"{base}.toml").read_text(encoding="utf-8")
    return as_layer(tomllib.loads(text))


def fitting(base: Mapping[str, Any], said: Mapping[str, Any]) -> Layer:
    """Leave out of a recipe what holds only together with a setting that is said to be another.

    That is the description of another data set, and a step size for another optimizer.
    """
    kept = dict(base)
    if said.get("data.name", base.get("data.name")) != base.get("data.name"):
        kept = {key: value for key, value in kept.items() if not describes_data(key)}
    for key in base:
        scope, side, name = _parts(key)
        optimizer = f"{side}.optimizer"
        now = said.get(scope + optimizer, said.get(optimizer, ...))
        if name == "lr" and now not in {..., base.get(scope + optimizer, base.get(optimizer))}:
            kept.pop(key, None)
    return kept


def _parts(key: str) -> tuple[str, str, str]:
    """Split ``methods.spry.client.lr`` into ``methods.spry.``, ``client`` and ``lr``."""
    table, _, name = key.rpartition(".")
    scope, dot, side = table.rpartition(".")
    return scope + dot, side, name


def yielding(
    methods: Mapping[str, Mapping[str, Any]], said: Mapping[str, Any], method: str
) -> dict[str, Any]:
    """Take from the methods' own tables what is said for all; options of a method, only where it is that method."""
    return {name: _without(own, name, said, method) for name, own in methods.items()}


def _without(own: Mapping[str, Any], name: str, said: Mapping[str, Any], method: str) -> dict[str, Any]:
    flat = flatten(own)
    same = flat.get("method.name", name) == method
    taken = {
        key
        for key in flat
        if key in said and key != "method.name" and (same or not key.startswith("method."))
    }
    return nested({key: value for key, value in flat.items() if key not in taken}) if taken else dict(own)


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Bring dotted keys back into tables."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *path, last = key.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return tree


def inherited(base: Mapping[str, Any], said: Mapping[str, Any]) -> Layer:
    """What tables of new names, which say whose method they are, have from the recipe's own table of that method."""
    ending = ".method.name"
    new = {
        key.split(".")[1]: of
        for key, of in said.items()
        if key.startswith("methods.") and key.endswith(ending)
    }
    return {
        f"methods.{name}.{key.removeprefix(f'methods.{of}.')}": value
        for name, of in new.items()
        for key, value in base.items()
        if key.startswith(f"methods.{of}.")
        and not any(known.startswith(f"methods.{name}.") for known in base)
    }


def algorithm_of(name: str, layer: Mapping[str, Any]) -> str:
    """The method that a name stands for: itself, or what the table of that name says."""
    return layer.get(f"methods.{name}.method.name", name)


def check_methods(methods: Mapping[str, Any]) -> None:
    """Refuse (ConfigError) a table in ``methods`` that is of no method: nothing would ever read it."""
    layer = flatten({"methods": methods})
    for name in methods:
        algorithm = algorithm_of(name, layer)
        if algorithm in RETIRED_METHODS:
            raise ConfigError(
                f"[methods.{name}]: there is no such method any more: {RETIRED_METHODS[algorithm]}"
            )
        try:
            find_method(algorithm)
        except ConfigError as error:
            raise ConfigError(f"[methods.{name}] is read by nothing: {error}") from error
