"""Says what is wrong with a configuration: which setting, why, and how it is written in a file or typed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from pydantic import ValidationError

from spry.core.errors import ConfigError, nearest
from spry.core.wording import told
from spry.experiment.values import UNSAID

LIKELY: Mapping[str, Any] = {"int": 8, "float": 0.01, "bool": True}
"""A value of each type, by what pydantic's errors about it begin with."""


def describe_mistake(error: ValidationError) -> str:
    """Put the first mistake into one line."""
    errors = error.errors()
    first = errors[0]
    place = first["loc"]
    why = told(errors, len(place))
    if place in {("method",), ("task",)} and first["type"] == "value_error":  # the method's own words
        return why
    key = ".".join(part for part in place if isinstance(part, str))  # without numbers of a list's items
    return f"setting {key} is {_shown(first.get('input'))}: {why}.{_spelling(key, first)}"


def unknown_setting(key: str, known: Iterable[str]) -> ConfigError:
    """Name the settings that were probably meant: those of this name in other tables, or else the nearest."""
    names = list(known)
    table, _, name = key.rpartition(".")
    tables = {"", *(one.rpartition(".")[0] for one in names)}
    alike = [one for one in names if one.rpartition(".")[2] == name] if table in tables else []
    near = nearest(key, names).partition(" Known")[0]
    meant = f"Did you mean {' or '.join(map(repr, alike))}? " if alike else f"{near} "
    hint = meant if meant.startswith("Did you mean") else ""
    return ConfigError(f"there is no setting {key!r}. {hint}See them all: spry settings")


def in_a_file(value: Any) -> str:
    """How a value is written in TOML."""
    return json.dumps(UNSAID if value is None else value, ensure_ascii=False)


def typed(key: str, value: Any) -> str:
    """How a setting is written on the command line.

    >>> print(typed("data.text", ["body"]))
    --set 'data.text=["body"]'
    """
    written = value if isinstance(value, str) else in_a_file(value)
    return f"--set {shlex.quote(f'{key}={written}')}"


def _spelling(key: str, error: Mapping[str, Any]) -> str:
    """How the value that was probably meant is written, or one of the right type; nothing if neither is known."""
    given, kind = error.get("input"), error["type"]
    in_list, plain = isinstance(error["loc"][-1], int), isinstance(given, (str, int, float, date))
    meant = [str(given)] if in_list or kind == "list_type" else str(given)
    verb = "Write"
    if kind not in {"string_type", "list_type"} or not plain:
        meant, verb = LIKELY.get(kind.partition("_")[0]), "For example"
    if meant is None:
        return ""
    table, _, name = key.rpartition(".")
    under = f" under [{table}]" if table else ""
    return f" {verb} {name} = {in_a_file(meant)}{under}, or {typed(key, meant)}"


def _shown(value: Any) -> str:
    return "a table" if isinstance(value, dict) else repr(value)
