"""IA3: one factor for each output of keys and values, and for each input of the feed-forward's second half."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.models import targets
from spry.models.adapters.adapter import Adapter, HeadModules, full_names, is_transposed, shared_arguments
from spry.models.adapters.registry import register_adapter
from spry.models.load import Backbone
from spry.models.targets import find_targets


@register_adapter("ia3")
@dataclass(frozen=True, kw_only=True)
class Ia3(Adapter):
    """Inner activations times learned vectors: ``y = l * (W x)``, or ``y = W (l * x)``, with ``l = 1`` at the start.

    Args:
        targets: Names or endings of names of the modules to adapt; None finds key and value projections and the
            projections back from the feed-forward's inner width. Of those, inputs are scaled; of others, outputs.

    Raises:
        ModelError: If no module is found.

    Source:
        Liu et al. 2022 (IA3, arXiv 2205.05638), section 3.3.
    """

    peft_config: ClassVar[str | None] = "IA3Config"

    def to_peft(self, backbone: Backbone, head: HeadModules, key: Key) -> Any:
        from peft import IA3Config

        pretrained = getattr(backbone.model, backbone.model.base_model_prefix)
        back = targets.feed_forward(pretrained)
        if self.targets is None:
            found = [*targets.keys_and_values(pretrained), *back]
        else:
            found = find_targets(pretrained, self.targets)
        if not found:
            raise ModelError(
                "no key, value and feed-forward projections were found. Name modules as peft.targets, or choose "
                "peft.kind = 'norm' or 'bitfit'."
            )
        return IA3Config(
            **shared_arguments(backbone, head),
            target_modules=full_names(backbone, found),
            feedforward_modules=full_names(backbone, [name for name in found if name in back]),
            fan_in_fan_out=is_transposed(backbone, full_names(backbone, found)),
        )
