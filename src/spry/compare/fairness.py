"""What the runs of a comparison have to share, and what each method may set for itself."""

from __future__ import annotations

from collections.abc import Mapping

from spry.core.errors import ConfigError
from spry.experiment.config import Config

METHOD_SETTINGS = (
    "method.",
    "client.optimizer",
    "client.lr",
    "client.micro_batch_size",
    "server.",
    "step_factors.",
    "schedule.decay",
    "peft.kind",
    "peft.rank",
    "peft.alpha",
    "peft.targets",
    "peft.exact",
)
"""Settings, or beginnings of settings, that may differ: how a method steps, and which weights it trains. Model,
precision, dropout, data, batches, local steps and rounds are not among them."""


def shared_settings(config: Config) -> dict[str, object]:
    """List what a run must have in common with the runs it is compared with, by dotted key, without the seed."""
    return {
        key: value
        for key, value in config.alone().flat().items()
        if not key.startswith(("seed", *METHOD_SETTINGS))
    }


def check_fairness(runs: Mapping[str, Config]) -> None:
    """Refuse (ConfigError) runs, by method, that differ in a setting that all methods must share."""
    (first, *others) = runs
    wanted = shared_settings(runs[first])
    for name in others:
        for key, value in shared_settings(runs[name]).items():
            if value != wanted.get(key):
                raise ConfigError(
                    f"{name} has {key} = {value!r}, {first} has {wanted.get(key)!r}: methods are compared on the same "
                    f"model, data and rounds. Set {key} for all methods. Each method may set: "
                    f"{', '.join(METHOD_SETTINGS)}"
                )
