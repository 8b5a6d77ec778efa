"""The table of tasks by name; each owns its options, and everything else asks here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from spry.core.errors import ConfigError, nearest
from spry.core.plugins import load_plugins
from spry.core.wording import told
from spry.tasks.kind import TaskKind

K = TypeVar("K", bound=type[TaskKind])
TASKS: dict[str, type[TaskKind]] = {}
"""All kinds of task by the name that ``task.name`` has for them, in the order in which they are listed."""


def register_task(kind: K) -> K:
    """Enter a kind of task into the table."""
    assert kind.name not in TASKS, f"two tasks are called {kind.name!r}"
    TASKS[kind.name] = kind
    return kind


def find_task(name: str) -> type[TaskKind]:
    """Look a kind of task up; for an unknown name, the ConfigError names the nearest."""
    if name not in TASKS:
        load_plugins()
    if name not in TASKS:
        raise ConfigError(f"there is no task {name!r}. {nearest(name, TASKS)}")
    return TASKS[name]


def make_task(name: str, options: Mapping[str, Any] | None = None) -> TaskKind:
    """Make a kind of task with its options, such as those of a configuration's table ``[task]``.

    Raises:
        ConfigError: If there is no such task, or an option is unknown or not allowed.
    """
    kind, given = find_task(name), dict(options or {})
    known = [field.name for field in fields(kind)]
    for option in given:
        if option not in known:
            others = nearest(option, known) if known else "It has no options."
            raise ConfigError(f"task {name!r} has no option {option!r}. {others}")
    try:
        return TypeAdapter(kind).validate_python(given)
    except ValidationError as error:
        errors = error.errors()
        option = ".".join(map(str, errors[0]["loc"][:1]))
        raise ConfigError(f"setting task.{option} is {given.get(option)!r}: {told(errors, 1)}") from error
