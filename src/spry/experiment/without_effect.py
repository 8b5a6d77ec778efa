"""Settings that a partition has no use for; those of readers are found where the data is read."""

from __future__ import annotations

from spry.experiment.schema import DataSettings

_USED = {"iid": {"clients"}, "dirichlet": {"clients", "alpha"}, "column": {"column"}}
"""Which of the settings of dealing a partition reads."""


def without_effect(data: DataSettings) -> list[str]:
    """Say which settings were changed in vain, and how they would count."""
    usual = DataSettings()
    changed = [name for name in ("clients", "alpha", "column") if getattr(data, name) != getattr(usual, name)]
    remedies = {
        "clients": "a column has its own clients",
        "alpha": "set data.partition=dirichlet to deal by it",
        "column": "set data.partition=column to deal by it",
    }
    return [
        f"data.{name} = {getattr(data, name)!r} has no effect with data.partition = {data.partition!r}: "
        f"{remedies[name]}."
        for name in changed
        if name not in _USED[data.partition]
    ]
