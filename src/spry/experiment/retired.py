"""Settings of earlier versions, and what became of each: an old configuration is told, not guessed at."""

from __future__ import annotations

from collections.abc import Mapping

from spry.core.errors import ConfigError

_GONE = "it was never shown to help and is gone; leave it out"
_ACTIVATION = "activation directions are in contrib: set method.name = 'spry_activation'"

RETIRED_KEYS: Mapping[str, str] = {
    "peft.basis": _GONE,
    "peft.head": "it is peft.exact now: 'layer' is 'head', 'block' is 'last_block'; 'top' is gone",
    "method.estimator": f"methods measure along weight directions; {_ACTIVATION}",
    "method.amplitudes": _GONE,
    "method.tied": _ACTIVATION,
    "method.directions": "directions are gaussian, as in the papers; leave it out",
    "method.count": "it is method.num_directions now",
    "method.count_growth": _GONE,
    "method.count_max": _GONE,
    "method.sleep": _GONE,
    "method.control_variate": "control variates are in contrib: set method.name = 'spry_control_variate'",
    "method.control_decay": "control variates are in contrib: set method.name = 'spry_control_variate'",
    "method.pool": "it is fwdllm's method.candidates now",
    "method.difference": "baffle takes forward differences, as in its paper; leave it out",
    "method.h": "it is method.fd_step now",
    "method.exact_head": "to perturb the head set peft.exact = 'nothing'",
    "method.slopes_only": "it is method.send = 'slopes' now",
    "method.downlink": "it is server.send now",
    "method.budgets": "they are a list under method.split now",
    "client.guard": "to bound what a client sends set client.clip",
    "client.batch_growth": _GONE,
    "server.average": "it is server.ema now",
    "schedule.phases": _GONE,
    "tune.seed": "trials always have a seed of their own; leave it out",
}
"""Dotted keys."""

RETIRED_METHODS: Mapping[str, str] = {
    "fedavg_split": "it is fedavg with method.split = 'cyclic' now",
    "fedyogi_split": "it is fedyogi with method.split = 'cyclic' now",
    "head_only_per_iteration": "it is head_only with method.clients_step = false and server.optimizer = 'yogi' now",
}
"""Names of methods."""


def for_all(key: str) -> str:
    """The setting that a method's own entry is about: ``client.lr`` of ``methods.spry.client.lr``."""
    return key.split(".", 2)[2] if key.startswith("methods.") and key.count(".") > 1 else key


def refuse_retired(key: str) -> None:
    """Say what became of a setting of earlier versions."""
    if (plain := for_all(key)) in RETIRED_KEYS:
        raise ConfigError(f"there is no setting {key!r} any more: {RETIRED_KEYS[plain]}")
