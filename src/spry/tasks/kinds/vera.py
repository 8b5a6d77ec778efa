"""VeRA: two vectors a module, between random matrices that all modules share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.tasks import targets
from spry.tasks.kinds.kind import Head, Kind, common, full, transposed
from spry.tasks.models import Backbone


@dataclass(frozen=True, kw_only=True)
class Vera(Kind):
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

    sleeps: ClassVar[Mapping[str, str]] = MappingProxyType({"vera_lambda_d": "vera_lambda_b"})

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0 <= self.dropout < 1:
            raise ModelError(
                f"VeRA has rank = {self.rank} and dropout = {self.dropout}. "
                "Allowed: a rank of at least 1, a dropout from 0 to below 1."
            )

    def config(self, backbone: Backbone, head: Head, key: Key) -> Any:
        """Write the configuration of ``peft``'s VeRA."""
        from peft import VeraConfig

        pretrained = getattr(backbone.model, backbone.model.base_model_prefix)
        found = full(backbone, targets.find(pretrained, self.targets))
        return VeraConfig(
            **common(head),
            r=self.rank,
            vera_dropout=self.dropout,
            projection_prng_key=int(key.generator("projection").integers(2**31)),
            target_modules=targets.endings(found, targets.linear_names(backbone.model)),
            fan_in_fan_out=transposed(backbone, found),
        )
