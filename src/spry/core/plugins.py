"""Modules that register methods and adapters when they are imported: Spry's own ``contrib``, and other people's."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from spry.core.errors import PluginError

GROUP = "spry.plugins"
"""The entry point group: each entry names a module, whose import registers what it has."""


@cache
def load_plugins() -> None:
    """Import every installed plugin, once.

    Raises:
        PluginError: If one cannot be imported.
    """
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:  # whatever other people's code raises
            raise PluginError(
                f"the plugin {point.name!r}{_origin(point)} cannot be imported ({type(error).__name__}: {error}). "
                "Mend the package that has it, or uninstall it."
            ) from error


def _origin(point: EntryPoint) -> str:
    package = f" of the package {point.dist.name}" if point.dist else ""
    return f" ({point.value}{package})"
