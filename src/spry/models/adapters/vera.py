"""VeRA: two vectors a module, between random matrices that all modules share."""

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


@register_adapter("vera")
@dataclass(frozen=True, kw_only=True)
class Vera(Adapter):
    """Vector-based random matrix adaptation: ``y = W x + diag(b) B diag(d) A x`` with ``b = 0, d = 0.1`` at the start.

    ``A`` and ``B`` are random, frozen and shared; the vectors b (D_out) and d (rank) of each module are trained. They
    are added by ``peft``, and saved with the random matrices.

    Args:
        rank: Rows of ``A``, at least 1; 256 is usual.
        dropout: Chance that an input of ``A`` is dropped while training, from 0 to below 1.
        targets: Names or endings of names of the modules to adapt; None finds query and value projections.

    Raises:
        ModelError: If a setting lies outside its range.

    Source:
        Kopiczko et al. 2024 (VeRA, arXiv 2310.11454).
    """

    rank: int = 1
    dropout: float = 0.0

    peft_config: ClassVar[str | None] = "VeraConfig"

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0 <= self.dropout < 1:
            raise ModelError(
                f"VeRA has rank = {self.rank} and dropout = {self.dropout}. "
                "Allowed: a rank of at least 1, a dropout from 0 to below 1."
            )

    def to_peft(self, backbone: Backbone, head: HeadModules, key: Key) -> Any:
        from peft import VeraConfig

        pretrained = getattr(backbone.model, backbone.model.base_model_prefix)
        found = full_names(backbone, find_targets(pretrained, self.targets))
        return VeraConfig(
            **shared_arguments(backbone, head),
            r=self.rank,
            vera_dropout=self.dropout,
            projection_prng_key=int(key.generator("projection").integers(2**31)),
            target_modules=targets.endings(found, targets.linear_names(backbone.model)),
            fan_in_fan_out=is_transposed(backbone, found),
        )
