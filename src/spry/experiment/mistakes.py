"""Says what is wrong with a configuration: which setting, why, and how it is written in a file or typed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from datetime import date
from typing import Any

from pydantic import ValidationError

from spry.core.wording import told


def describe_mistake(error: ValidationError) -> str:
    """Put the first mistake into one line."""
    errors = error.errors()
    first = errors[0]
    key = ".".join(map(str, first["loc"]))
    if key == "method" and first["type"] == "value_error":  # the method's own words
        return told(errors, len(first["loc"]))
    why = told(errors, len(first["loc"]))
    return f"setting {key} is {_shown(first.get('input'))}: {why}.{spelling(key, _meant(first))}"


def spelling(key: str, value: Any) -> str:
    """How a value is written, such as `` Write text = ["body"] under [data], or --set 'data.text=["body"]'``."""
    if value is None:
        return ""
    table, _, name = key.rpartition(".")
    written = json.dumps(value, ensure_ascii=False)
    place = f" under [{table}]" if table else ""
    typed = value if isinstance(value, str) else written
    return f" Write {name} = {written}{place}, or --set {shlex.quote(f'{key}={typed}')}"


def _meant(error: Mapping[str, Any]) -> Any:
    """The value that was probably meant by one of another type; None if that is not known."""
    given, kind = error.get("input"), error["type"]
    if kind == "string_type" and isinstance(given, (int, float, date)):
        return str(given)
    if kind == "list_type" and isinstance(given, (str, int, float)):
        return [str(given)]
    return None


def _shown(value: Any) -> str:
    return "a table" if isinstance(value, dict) else repr(value)
