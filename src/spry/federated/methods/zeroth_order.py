"""The rivals that only run inference: finite differences along random directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from spry.estimators.projected import projected
from spry.estimators.slopes import central_difference, forward_difference
from spry.federated.algorithm import Algorithm, compose
from spry.federated.methods.options import DirectionOptions, SteppingDirectionOptions
from spry.federated.methods.registry import Setup, method
from spry.federated.split import everything
from spry.optim.named import Named

FdStep = Annotated[float, Field(gt=0, description="Step h of the finite difference.")]


@method(
    "fedmezo",
    paper="Malladi et al. 2023, arXiv 2305.17333",
    client=Named("sgd", 1e-3),
    server=Named("sgd", 1.0),
    sums=True,
)
@dataclass(frozen=True, kw_only=True)
class FedMezo(SteppingDirectionOptions):
    """Central differences along random directions on every client, weights averaged."""

    fd_step: FdStep = 1e-3

    def build(self, setup: Setup) -> Algorithm:
        return compose(
            name=setup.name,
            units=setup.units,
            estimator=projected(central_difference(self.fd_step), self.spec(setup), self.num_directions),
            client=setup.client,
            server=setup.server,
            split=everything,
            replayed=self.replayed_if_sent(setup),
            transforms=setup.transforms,
            aggregation=setup.aggregation,
        )


@method("baffle", paper="Feng et al. 2023, arXiv 2301.12195", server=Named("sgd", 0.1), sums=True)
@dataclass(frozen=True, kw_only=True)
class Baffle(DirectionOptions):
    """Forward differences at the server's weights; clients send numbers, the server steps."""

    fd_step: FdStep = 1e-3

    @property
    def stepper(self) -> Literal["client", "server"]:
        return "server"

    def build(self, setup: Setup) -> Algorithm:
        return compose(
            name=setup.name,
            units=setup.units,
            estimator=projected(forward_difference(self.fd_step), self.spec(setup), self.num_directions),
            client=None,
            server=setup.server,
            split=everything,
            replayed=self.replayed(setup),
            transforms=setup.transforms,
            aggregation=setup.aggregation,
        )
