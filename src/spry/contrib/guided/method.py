"""The residual guess with a slope that measures its length, or one that judges each step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from spry.contrib.guided.estimator import along_guess
from spry.contrib.guided.referee import refereed
from spry.core.errors import ConfigError
from spry.estimators.estimate import Estimator
from spry.federated.algorithm import Algorithm
from spry.federated.client import ClientResult, LossOf, run_client
from spry.federated.methods.registry import Setup, method
from spry.federated.methods.residual import Residual
from spry.optim.named import Named
from spry.wire.messages import Order


@method(
    "guided",
    paper="Fournier et al. 2023, arXiv 2306.06968, with the residual guess",
    client=Named("adamw", 1e-3),
    server=Named("sgd", 1.0),
    needs_blocks=True,
)
@dataclass(frozen=True, kw_only=True)
class Guided(Residual):
    """The residual guess, whose length or whose steps a slope by forward mode decides."""

    length: Annotated[
        Literal["guess", "whole", "block"],
        Field(
            description="What the guess is as long as: itself, or as a slope along the whole guess says, or as one "
            "slope a block says."
        ),
    ] = "whole"
    referee: Annotated[
        bool,
        Field(
            description="Whether a slope along each proposed step drops what would raise the loss below the last block."
        ),
    ] = False

    def estimator(self) -> Estimator:
        guess = super().estimator()
        return guess if self.length == "guess" else along_guess(guess, self.length)

    def build(self, setup: Setup) -> Algorithm:
        base = super().build(setup)
        if not self.referee:
            return base
        if not self.clients_step:
            raise ConfigError(
                "method.referee judges the steps of clients, and with method.clients_step = false they take none. Set "
                "one of the two to its default."
            )
        training = refereed(self.estimator(), setup.client)

        def train(loss_of: LossOf, order: Order, batches: Iterable[Any], examples: int) -> ClientResult:
            return run_client(training, loss_of, order, batches, examples, transforms=setup.transforms)

        return replace(base, train=train)
