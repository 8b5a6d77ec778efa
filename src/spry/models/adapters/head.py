"""The head alone: nothing is added to the pretrained part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.models.adapters.adapter import Adapter, HeadModules, shared_arguments
from spry.models.adapters.registry import register_adapter
from spry.models.load import Backbone


@register_adapter("head")
@dataclass(frozen=True, kw_only=True)
class BareHead(Adapter):
    """The classifier's own layers are trained, nothing else; ``peft`` saves them as a LoRA of no module.

    Raises:
        ModelError: If targets are named, or the model has no head that is trained.
    """

    def to_peft(self, backbone: Backbone, head: HeadModules, key: Key) -> Any:
        from peft import LoraConfig
        from peft.utils.constants import DUMMY_TARGET_MODULES

        if self.targets is not None:
            raise ModelError(f"peft.kind = 'head' adapts no modules, so it has no targets: {self.targets}")
        if not head.layers:
            raise ModelError("it has no head that is trained, so peft.kind = 'head' would train nothing")
        return LoraConfig(**shared_arguments(backbone, head), r=1, target_modules=DUMMY_TARGET_MODULES)
