"""The rivals that need a backward pass: FedAvg, FedYogi, FedSGD."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from spry.estimators.backprop import backprop
from spry.federated.algorithm import Algorithm, compose
from spry.federated.methods.options import SplitOption, find_split
from spry.federated.methods.registry import Options, Setup, method
from spry.optim.named import Named
from spry.optim.transform import Transform

FEDAVG = "McMahan et al. 2017, arXiv 1602.05629"


@dataclass(frozen=True, kw_only=True)
class Backpropagation(Options):
    """What methods share that backpropagate through the whole model."""

    checkpoint: Annotated[
        bool, Field(description="Whether the backward pass recomputes activations instead of keeping them.")
    ] = True
    split: SplitOption = "everything"

    def build(self, setup: Setup) -> Algorithm:
        return self._composed(setup, setup.client)

    def _composed(self, setup: Setup, client: Transform | None) -> Algorithm:
        return compose(
            name=setup.name,
            units=setup.units,
            estimator=backprop(self.checkpoint),
            client=client,
            server=setup.server,
            split=find_split(self.split),
            transforms=setup.transforms,
            aggregation=setup.aggregation,
        )


@method(
    "fedavg",
    paper=FEDAVG,
    client=Named("adamw", 1e-3),
    server=Named("sgd", 1.0),
    backpropagates=True,
    sums=True,
)
@dataclass(frozen=True, kw_only=True)
class FedAvg(Backpropagation):
    """Backpropagation on every client, weights averaged."""


@method(
    "fedyogi",
    paper="Reddi et al. 2021, arXiv 2003.00295",
    client=Named("adamw", 1e-3),
    server=Named("yogi", 1e-2),
    backpropagates=True,
    sums=True,
)
@dataclass(frozen=True, kw_only=True)
class FedYogi(Backpropagation):
    """Backpropagation on every client, an adaptive server."""


@method("fedsgd", paper=FEDAVG, server=Named("sgd", 0.1), backpropagates=True, sums=True)
@dataclass(frozen=True, kw_only=True)
class FedSgd(Backpropagation):
    """Backpropagated gradients at the server's weights, averaged, one server step a round."""

    @property
    def stepper(self) -> Literal["client", "server"]:
        return "server"

    def build(self, setup: Setup) -> Algorithm:
        return self._composed(setup, client=None)
