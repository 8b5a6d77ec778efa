"""The residual guess with a slope that measures its length, or one that judges each step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from spry.contrib.guided.estimator import along_guess
from spry.contrib.guided.referee import refereed
from spry.estimators.carry import Guess
from spry.estimators.residual import residual
from spry.federated.algorithm import Algorithm, compose
from spry.federated.client import ClientResult, LossOf, run_client
from spry.federated.methods.options import SplitOption, find_split
from spry.federated.methods.registry import Options, Setup, method
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
class Guided(Options):
    """The residual guess, whose length or whose steps a slope by forward mode decides."""

    guess: Annotated[
        Guess,
        Field(description="How the gradient at the last block's input is carried down, as in residual."),
    ] = "identity"
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
    split: SplitOption = "everything"

    def build(self, setup: Setup) -> Algorithm:
        guess = residual(self.guess)
        estimator = guess if self.length == "guess" else along_guess(guess, self.length)
        base = compose(
            name=setup.name,
            units=setup.units,
            estimator=estimator,
            client=setup.client,
            server=setup.server,
            split=find_split(self.split),
            transforms=setup.transforms,
        )
        if not self.referee:
            return base
        training = refereed(estimator, setup.client)

        def train(loss_of: LossOf, order: Order, batches: Iterable[Any], examples: int) -> ClientResult:
            return run_client(training, loss_of, order, batches, examples, transforms=setup.transforms)

        return replace(base, train=train)
