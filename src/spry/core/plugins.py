"""Modules that register methods and adapters when they are imported: Spry's own ``contrib``, and other people's."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

GROUP = "spry.plugins"
"""The entry point group: each entry names a module, whose import registers what it has."""


@cache
def load_plugins() -> None:
    """Import every installed plugin, once."""
    for point in entry_points(group=GROUP):
        point.load()
