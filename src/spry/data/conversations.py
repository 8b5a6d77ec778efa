"""Conversations out of cells: chat messages as they are stored, or a prompt with its answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from spry.core.errors import DataError
from spry.data import cells

_ALIASES = {
    "human": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "developer": "system",
}
"""Names of roles in some collections, and what chat templates call them."""
_KNOWN = ("system", "user", "assistant", "tool")
"""Roles that chat templates know."""
_SHAPE = '[{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]'


class Turn(NamedTuple):
    """One message: who says it, and what."""

    role: str
    content: str


Conversation = tuple[Turn, ...]
"""Messages in their order; what an assistant says is what is learnt."""


def exchange(prompt: str, answer: str) -> Conversation:
    """A prompt with its answer; no turn at all if one of them is empty."""
    return (Turn("user", prompt), Turn("assistant", answer)) if prompt and answer else ()


def asked(prompt: str) -> Conversation:
    """A prompt without its answer; no turn if it is empty."""
    return (Turn("user", prompt),) if prompt else ()


def conversation(cell: Any, where: str, row: int, *, asking: bool = False) -> Conversation:
    """Take one cell, in a row counted from 1, as a conversation; no turn if it is missing or empty.

    Messages are objects of ``role`` and ``content``, or of ``from`` and ``value``; a cell of a text file may spell them
    as JSON. Turns after the assistant's last one are left out, for nothing is learnt of them; with ``asking``, an
    assistant's at the end, and text is what a user says.

    Raises:
        DataError: If the cell holds no messages, a role is unknown, or no assistant says anything.
    """
    if asking and isinstance(cell, str) and not cell.lstrip().startswith("["):
        return asked(cell)
    if isinstance(cell, str):
        cell = _spelled(cell, where, row)
    if cells.is_missing(cell) or (cells.is_list(cell) and not len(cell)):
        return ()
    if not cells.is_list(cell):
        raise DataError(
            f"{where}: row {row} holds no list of messages ({str(cell)[:60]}). Allowed: {_SHAPE}."
        )
    turns = [_turn(message, f"{where}: row {row}, message {place}") for place, message in enumerate(cell, 1)]
    if asking:
        return tuple(turns[:-1] if turns[-1].role == "assistant" else turns)
    last = max((i for i, turn in enumerate(turns) if turn.role == "assistant" and turn.content), default=None)
    if last is None:
        raise DataError(
            f"{where}: row {row} has no message of an assistant, so there is nothing to learn from it. Add the answer, "
            "or remove the row."
        )
    return tuple(turns[: last + 1])


def _spelled(cell: str, where: str, row: int) -> Any:
    if not cell.strip():
        return None
    try:
        return json.loads(cell)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}: row {row} is no JSON ({error.msg} at column {error.colno}): {cell[:60]}. Allowed: {_SHAPE}."
        ) from error


def _turn(message: Any, where: str) -> Turn:
    if not isinstance(message, Mapping):
        raise DataError(f"{where} is a {type(message).__name__}. Allowed: {_SHAPE}.")
    role = message.get("role", message.get("from"))
    content = message.get("content", message.get("value"))
    if role is None or (content is None and "content" not in message and "value" not in message):
        raise DataError(
            f"{where} has the fields {', '.join(map(str, message)) or 'none'}. Allowed: {_SHAPE}."
        )
    name = _ALIASES.get(str(role).lower(), str(role).lower())
    if name not in _KNOWN:
        raise DataError(f"{where} is of the role {role!r}. Allowed: {', '.join(_KNOWN)}.")
    return Turn(name, _content(content, where))


def _content(content: Any, where: str) -> str:
    """The text of a message, which may come in parts."""
    if not cells.is_list(content):
        return cells.text(content, where, 1).strip() if not isinstance(content, str) else content.strip()
    parts = [part if isinstance(part, Mapping) else {"type": type(part).__name__} for part in content]
    other = [part.get("type") for part in parts if part.get("type") != "text"]
    if other:
        raise DataError(f"{where} has a part of the type {other[0]!r}. Allowed: parts of text.")
    return "\n".join(str(part.get("text", "")) for part in parts).strip()
