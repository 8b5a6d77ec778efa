"""The table of adapters by name, for configurations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from spry.core.errors import ConfigError, nearest
from spry.core.plugins import load_plugins
from spry.models.adapters.adapter import Adapter

A = TypeVar("A", bound=type[Adapter])
ADAPTERS: dict[str, type[Adapter]] = {}
"""All adapters by the name that ``peft.kind`` has for them."""


def register_adapter(name: str) -> Callable[[A], A]:
    def register(adapter: A) -> A:
        assert name not in ADAPTERS, f"two adapters are called {name!r}"
        ADAPTERS[name] = adapter
        return adapter

    return register


def find_adapter(name: str) -> type[Adapter]:
    """Look an adapter up; for an unknown name, the ConfigError names the nearest."""
    if name not in ADAPTERS:
        load_plugins()
    if name not in ADAPTERS:
        raise ConfigError(
            f"setting peft.kind is {name!r}: there is no such adapter. {nearest(name, ADAPTERS)}"
        )
    return ADAPTERS[name]
