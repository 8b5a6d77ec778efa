"""Exact gradients at the top of the model; below it a guess, or the exact gradient on a bounded tape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from spry.core.errors import ConfigError
from spry.estimators.carry import Guess
from spry.estimators.estimate import Estimator
from spry.estimators.residual import residual
from spry.federated.algorithm import Algorithm, compose
from spry.federated.methods.options import SplitOption, find_split
from spry.federated.methods.registry import Options, Setup, method
from spry.optim.named import Named


@method(
    "residual",
    paper="Spry's own; kin: FPO, arXiv 2608.14563",
    client=Named("adamw", 1e-3),
    server=Named("sgd", 1.0),
    needs_blocks=True,
    sums=True,
)
@dataclass(frozen=True, kw_only=True)
class Residual(Options):
    """Exact gradients of the last block, carried down to the blocks below: as a guess, or whole on a bounded tape."""

    guess: Annotated[
        Guess,
        Field(
            description="How the gradient at the last block's input is carried down: as it is (identity), through "
            "norms (norm), through all but attention (mlp), or whole (full), which is backpropagation, computed on a "
            "tape of a few examples at a time, or block by block where that of one example is too large."
        ),
    ] = "identity"
    blocks_per_step: Annotated[
        Annotated[int, Field(ge=0)] | Literal["all", "drawn"],
        Field(
            description="How many blocks under the last one a local step trains, drawn anew each step, or all from a "
            "drawn one on ('drawn'); fewer cost less."
        ),
    ] = "all"
    clients_step: Annotated[
        bool, Field(description="Whether clients take local steps; if not, the server takes one a round.")
    ] = True
    split: SplitOption = "everything"

    @property
    def stepper(self) -> Literal["client", "server"]:
        return "client" if self.clients_step else "server"

    def estimator(self) -> Estimator:
        return residual(self.guess, self.blocks_per_step)

    def build(self, setup: Setup) -> Algorithm:
        if self.blocks_per_step != "all" and not self.clients_step:
            raise ConfigError(
                f"method.blocks_per_step is {self.blocks_per_step} where clients send a mean gradient, which would "
                "lack blocks. Set method.clients_step = true, or deal the blocks with method.split."
            )
        return compose(
            name=setup.name,
            units=setup.units,
            estimator=self.estimator(),
            client=setup.client if self.clients_step else None,
            server=setup.server,
            split=find_split(self.split),
            transforms=setup.transforms,
            aggregation=setup.aggregation,
        )
