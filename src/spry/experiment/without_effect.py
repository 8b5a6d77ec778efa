"""Settings that a partition, an adapter, a model or a method has no use for.

Those of readers are found where data is read.
"""

from __future__ import annotations

from collections.abc import Iterable

from spry.core.units import Unit
from spry.experiment.config import Config
from spry.experiment.schema import DataSettings, PeftSettings

ADAPTIVE = {"adam", "adamw", "adagrad", "yogi"}
"""Optimizers whose steps hardly depend on how long gradients are."""
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


def idle_peft(peft: PeftSettings, known: Iterable[str]) -> list[str]:
    """Say which settings of the trained weights were changed in vain, as their kind has no use for them.

    Rank and alpha are no changes: recipes set them for whatever kind.

    Args:
        known: The kind's own settings.
    """
    usual, own = PeftSettings(), {"kind", "exact", "rank", "alpha", *known}
    changed = [name for name in type(peft).model_fields if getattr(peft, name) != getattr(usual, name)]
    return [
        f"peft.{name} = {getattr(peft, name)!r} has no effect with peft.kind = {peft.kind!r}."
        for name in changed
        if name not in own
    ]


def idle_factors(config: Config, units: Iterable[Unit], trained: Iterable[Unit]) -> list[str]:
    """Say which step factors were changed in vain: of groups that the model has not, or that the method leaves alone.

    Args:
        units: All that there are.
        trained: Those that the method trains.
    """
    there, moved = {unit.group for unit in units}, {unit.group for unit in trained}
    changed = {group: factor for group, factor in config.step_factors.by_group().items() if factor != 1}
    absent = {
        group: "no adapters of the last block join the head (peft.exact)"
        if group == "exact"
        else "there are no such weights"
        for group in changed
        if group not in there
    }
    still = {
        group: f"{config.method.name} does not train them"
        for group, factor in changed.items()
        if factor and group not in moved
    }
    return [
        f"step_factors.{group} = {changed[group]:g} has no effect: {why}."
        for group, why in (still | absent).items()
    ]


def evened_out(config: Config) -> list[str]:
    """Say where a server undoes what was set of the clients' step size."""
    own = config.method.info.server
    server = config.server.optimizer or (own.name if own else "")
    factors = config.step_factors.by_group()
    changed = [f"step_factors.{group}" for group, factor in factors.items() if factor not in {0, 1}]
    changed += [] if config.schedule.decay == "none" else ["schedule.decay"]
    if not changed or server not in ADAPTIVE or config.method.options.stepper != "client":
        return []
    return [
        f"{', '.join(changed)} may change little: the clients' steps are scaled, and the server's {server} evens out "
        "how long their updates are. Set server.optimizer = 'sgd' and server.lr = 1.0 to keep them."
    ]
