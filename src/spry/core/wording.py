"""What is wrong with a value, in our words instead of pydantic's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

OURS = "Value error, "
"""What pydantic puts before the words of our own checks."""
WORDS: Mapping[str, str] = {
    "greater_than": "it must be greater than {gt}",
    "greater_than_equal": "it must be at least {ge}",
    "less_than": "it must be less than {lt}",
    "less_than_equal": "it must be at most {le}",
    "too_short": "it must have at least {min_length} entries",
    "too_long": "it must have at most {max_length} entries",
    "literal_error": "it must be {expected}",
    "int": "it must be a whole number",
    "float": "it must be a number",
    "finite": "it must be a finite number",
    "bool": "it must be true or false",
    "string": "it must be text",
    "list": "it must be a list",
    "tuple": "it must be a list",
    "dict": "it must be a table",
    "model": "it must be a table",
}
"""By the type of pydantic's error, or what that begins with, such as ``int`` of ``int_parsing``."""


def told(errors: Sequence[Mapping[str, Any]], depth: int) -> str:
    """Say what is wrong with the first value; the errors about it, one for each kind it may have, begin alike."""
    place = errors[0]["loc"][:depth]
    return ", or ".join(dict.fromkeys(_one(error) for error in errors if error["loc"][:depth] == place))


def _one(error: Mapping[str, Any]) -> str:
    kind = error["type"]
    words = WORDS.get(kind, WORDS.get(kind.partition("_")[0], ""))
    return words.format(**error.get("ctx", {})) if words else error["msg"].removeprefix(OURS)
