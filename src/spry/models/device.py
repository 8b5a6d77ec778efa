"""Whether this machine has the device that is asked for."""

from __future__ import annotations

import torch

from spry.core.errors import ConfigError


def check_device(name: str, setting: str = "setting model.device") -> None:
    """Refuse (ConfigError) a device that torch does not know, that this machine or this torch lacks, or without memory.

    ``setting`` is what the message calls the place where the device was given.
    """
    try:
        lacks = (
            torch.empty(0, device=name).device.type == "meta"
        )  # it has shapes, and no values to compute with
        cause = None
    except (RuntimeError, AssertionError) as error:  # the latter where torch is built without CUDA
        lacks, cause = True, error
    if lacks:
        built = f" (torch {torch.__version__} is built without CUDA)" if torch.version.cuda is None else ""
        raise ConfigError(
            f"{setting} is {name!r}, which this machine does not have. Allowed here: {', '.join(_there())}{built}"
        ) from cause


def _there() -> list[str]:
    cards = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return ["cpu", *cards, *(["mps"] if torch.backends.mps.is_available() else [])]
