"""Spry with activation directions below what gets exact gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from spry.contrib.activation.estimator import activation
from spry.core.units import exact_names
from spry.federated.algorithm import Algorithm, compose
from spry.federated.methods.options import DirectionOptions, SplitOption, find_split
from spry.federated.methods.registry import Setup, method
from spry.optim.named import Named


@method(
    "spry_activation",
    paper="Panchal et al. 2024, arXiv 2405.15551, with Ren et al. 2022, arXiv 2210.03310",
    client=Named("adamw", 1e-3),
    server=Named("yogi", 1e-2),
)
@dataclass(frozen=True, kw_only=True)
class SpryActivation(DirectionOptions):
    """Forward mode that moves outputs of LoRA's narrow maps, example by example, instead of their weights."""

    split: SplitOption = "cyclic"
    tied: Annotated[
        bool,
        Field(
            description="Whether the tokens between a text's first and last move together: biased, less noise."
        ),
    ] = True

    def build(self, setup: Setup) -> Algorithm:
        return compose(
            name=setup.name,
            units=setup.units,
            estimator=activation(exact_names(setup.units), self.num_directions, tied=self.tied),
            client=setup.client,
            server=setup.server,
            split=find_split(self.split),
            transforms=setup.transforms,
        )
