"""Whether this machine has the device that a run asks for."""

from __future__ import annotations

import torch

from spry.core.errors import ConfigError


def check_device(name: str) -> None:
    """Refuse (ConfigError) a device that torch does not know, or that this machine or this torch lacks."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # the latter where torch is built without CUDA
        built = f" (torch {torch.__version__} is built without CUDA)" if torch.version.cuda is None else ""
        raise ConfigError(
            f"setting model.device is {name!r}, which there is not here. Allowed: {', '.join(_there())}{built}"
        ) from error


def _there() -> list[str]:
    cards = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return ["cpu", *cards, *(["mps"] if torch.backends.mps.is_available() else [])]
