"""The adapters: one table over the kinds of trainable weights that ``peft`` can add to a frozen model."""

from __future__ import annotations

# each module registers its adapters when it is imported
from spry.models.adapters.adapter import Adapter, HeadModules
from spry.models.adapters.bitfit import BitFit
from spry.models.adapters.dora import Dora
from spry.models.adapters.from_config import FromConfig
from spry.models.adapters.head import BareHead
from spry.models.adapters.ia3 import Ia3
from spry.models.adapters.lora import Lora
from spry.models.adapters.norm import Norm
from spry.models.adapters.registry import ADAPTERS, find_adapter, register_adapter
from spry.models.adapters.rslora import RsLora
from spry.models.adapters.vera import Vera

__all__ = [
    "ADAPTERS",
    "Adapter",
    "BareHead",
    "BitFit",
    "Dora",
    "FromConfig",
    "HeadModules",
    "Ia3",
    "Lora",
    "Norm",
    "RsLora",
    "Vera",
    "find_adapter",
    "register_adapter",
]
