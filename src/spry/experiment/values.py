"""Text typed as ``key=value`` into the value that the setting takes."""

from __future__ import annotations

import contextlib
import tomllib
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from spry.core.errors import nearest

Inner = tuple[Any, ...]
"""What stands in the brackets of a type, such as ``(str,)`` of ``list[str]``."""
UNSAID = "none"
"""What takes the value away from a setting that may be without one."""
UNSET = {"", UNSAID}
"""The same on the command line."""
FLAGS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def parse_value(text: str, annotation: Any) -> Any:
    """Read a value as the type of its setting says.

    Text is taken as it is written, whatever it looks like, and so are bare words of a list; the rest is TOML.

    Raises:
        ValueError: If the text is no such value; the message says what is allowed.

    Example:
        >>> parse_value("2024", str), parse_value("2024", int), parse_value("a, b", list[str])
        ('2024', 2024, ['a', 'b'])
    """
    kind, inner = get_origin(annotation) or annotation, get_args(annotation)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        kind = dict
    return READERS.get(kind, _anything)(text.strip(), inner)


def annotation_of(model: type[BaseModel], key: str) -> Any:
    """Find the type of a setting such as ``client.lr``; ``Any`` if there is none, or its table is free."""
    name, _, rest = key.partition(".")
    field = model.model_fields.get(name)
    if field is None:
        return Any
    if not rest:
        return field.annotation
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
        return annotation_of(field.annotation, rest)
    return Any


def annotation_of_option(owners: Iterable[type], key: str) -> Any:
    """Find the type of a method's or a task's option: of the first class that has it; ``Any`` if none has."""
    for options in owners:
        hints = get_type_hints(options)
        if key in hints:
            return hints[key]
    return Any


def may_be_unset(annotation: Any) -> bool:
    return type(None) in get_args(annotation)


def _either(text: str, kinds: Inner) -> Any:
    options = tuple(option for kind in kinds if get_origin(kind) is Literal for option in get_args(kind))
    if text in map(str, options):
        return _option(text, options)
    if type(None) in kinds and text in UNSET:
        return None

    def rank(kind: Any) -> tuple[bool, bool]:  # what takes every text comes last
        return get_origin(kind) is list and not text.startswith("["), kind is str

    told: list[str] = []
    for kind in sorted((kind for kind in kinds if kind is not type(None)), key=rank):
        try:
            return parse_value(text, kind)
        except ValueError as error:
            told.append(str(error))
    raise ValueError(", or ".join(told))


def _option(text: str, options: Inner) -> Any:
    plain = _unquoted(text)
    found = [option for option in options if str(option) == plain]
    if not found:
        raise ValueError(f"that is no choice here. {nearest(plain, map(str, options))}")
    return found[0]


def _flag(text: str, _: Inner = ()) -> bool:
    if text.lower() not in FLAGS:
        raise ValueError("write true or false")
    return FLAGS[text.lower()]


def _float(text: str, _: Inner = ()) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError("write a number, such as 0.1 or 1e-3") from error


def _integer(text: str, _: Inner = ()) -> int:
    for read in (lambda: int(text, base=0), lambda: _whole(float(text))):  # the latter for 1e3
        with contextlib.suppress(ValueError):
            return read()
    raise ValueError("write an integer, such as 8")


def _whole(value: float) -> int:
    if not value.is_integer():
        raise ValueError(value)
    return int(value)


def _unquoted(text: str, _: Inner = ()) -> str:
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        try:
            value = _toml(text)
        except tomllib.TOMLDecodeError:
            return text
        return value if isinstance(value, str) else text
    return text


def _list(text: str, kinds: Inner) -> list[Any]:
    inner = kinds[0] if kinds else Any
    bracketed = text.startswith("[") and text.endswith("]")
    if bracketed:
        try:
            values = _toml(text)
            if inner is not str or all(isinstance(value, str) for value in values):
                return values
        except tomllib.TOMLDecodeError:  # a shell has taken the quotes away
            pass
    words = (text[1:-1] if bracketed else text).split(",")
    return [parse_value(word, inner) for word in words if word.strip()]


def _table(text: str, _: Inner = ()) -> dict[str, Any]:
    try:
        value = _toml(text)
    except tomllib.TOMLDecodeError:
        value = None
    if not isinstance(value, dict):
        raise ValueError("it is a table: set one of its keys, or write {key = value}")
    return value


def _anything(text: str, _: Inner = ()) -> Any:
    try:
        return _toml(text)
    except tomllib.TOMLDecodeError:
        return text


def _toml(text: str) -> Any:
    return tomllib.loads(f"value = {text}")["value"]


READERS: Mapping[Any, Callable[[str, Inner], Any]] = {
    Annotated: lambda text, inner: parse_value(text, inner[0]),
    Union: _either,
    types.UnionType: _either,
    Literal: _option,
    bool: _flag,
    int: _integer,
    float: _float,
    str: _unquoted,
    list: _list,
    tuple: _list,
    dict: _table,
    Mapping: _table,
    Sequence: _list,
}
"""How each type is read, by ``get_origin`` or the type itself, given the text and the types within."""
