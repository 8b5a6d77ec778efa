"""What the runs of a comparison have to share, and what may be a method's own."""

from __future__ import annotations

from collections.abc import Mapping

from spry.core.errors import ConfigError
from spry.experiment.config import Config

OWN = (
    "method.",
    "client.optimizer",
    "client.lr",
    "client.micro_batch_size",
    "server.",
    "peft.kind",
    "peft.rank",
    "peft.alpha",
    "peft.targets",
    "peft.head",
    "peft.basis",
)
"""Settings, or beginnings of settings, that may differ: how a method steps, and which weights it trains. Model,
precision, dropout, data, batches, local steps and rounds are not among them."""


def shared(config: Config) -> dict[str, object]:
    """List what a run has to have in common with those it is compared with.

    Args:
        config: The configuration of one run.

    Returns:
        Settings by dotted key; the seed is not among them.
    """
    return {key: value for key, value in config.alone().flat().items() if not key.startswith(("seed", *OWN))}


def check(runs: Mapping[str, Config]) -> None:
    """Make sure that runs may be compared.

    Args:
        runs: Configurations by the names of their methods.

    Raises:
        ConfigError: If they differ in a setting that is no method's own.
    """
    (first, *others) = runs
    wanted = shared(runs[first])
    for name in others:
        for key, value in shared(runs[name]).items():
            if value != wanted.get(key):
                raise ConfigError(
                    f"{name} has {key} = {value!r}, {first} has {wanted.get(key)!r}: what is compared shares model, "
                    f"data and rounds. Set {key} for all methods. A method's own may be: {', '.join(OWN)}"
                )
