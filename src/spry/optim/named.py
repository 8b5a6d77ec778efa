"""Optimizers by name, for configurations and for methods' defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from spry.core.errors import ConfigError, nearest
from spry.optim.rules import adagrad, adam, adamw, sgd, yogi
from spry.optim.transform import Transform

OPTIMIZERS: Mapping[str, Callable[..., Transform]] = {
    "sgd": sgd,
    "momentum": lambda lr, momentum=0.9: sgd(lr, momentum),
    "adam": adam,
    "adamw": adamw,
    "adagrad": adagrad,
    "yogi": yogi,
}


def optimizer(name: str, **settings: Any) -> Transform:
    """Make one of ``OPTIMIZERS`` from its name and settings, such as ``lr``.

    Raises:
        ConfigError: If the name or a setting is unknown or out of range.

    Example:
        >>> optimizer("yoga", lr=0.1)
        Traceback (most recent call last):
        spry.core.errors.ConfigError: no optimizer 'yoga'. Did you mean 'yogi'? Known: ...
    """
    if name not in OPTIMIZERS:
        raise ConfigError(f"no optimizer {name!r}. {nearest(name, OPTIMIZERS)}")
    try:
        return OPTIMIZERS[name](**settings)
    except TypeError as error:
        raise ConfigError(f"optimizer {name!r} does not take these settings: {settings} ({error})") from error


@dataclass(frozen=True)
class Named:
    """A method's default optimizer and its step size; the name is a key of ``OPTIMIZERS``."""

    name: str
    lr: float

    def make(self) -> Transform:
        return optimizer(self.name, lr=self.lr)
