"""Patterns that give some modules a rank or a scale of their own, read as ``peft`` reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from spry.core.errors import ModelError


def check_patterns(setting: str, patterns: Iterable[str], adapted: Sequence[str]) -> None:
    """Refuse, with a ModelError, patterns that are no regular expressions or fit none of the adapted modules.

    ``peft`` itself passes over them, so that a misspelt one would go unnoticed.
    """
    for pattern in patterns:
        try:
            fits = any(re.match(rf"(.*\.)?({pattern})$", name) for name in adapted)
        except re.error as error:
            raise ModelError(
                f"{setting} has {pattern!r}, which is no regular expression: {error}."
            ) from error
        if not fits:
            listed = ", ".join(sorted({name.rpartition(".")[2] for name in adapted}))
            raise ModelError(
                f"{setting} has {pattern!r}, which fits no adapted module. They end in: {listed}. "
                "Name one of these, or adapt others with peft.targets."
            )
