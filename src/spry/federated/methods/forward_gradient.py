"""Spry and its ablations: clients measure slopes by forward-mode automatic differentiation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spry.estimators.projected import projected
from spry.estimators.slopes import forward_mode
from spry.federated.algorithm import Algorithm, compose
from spry.federated.methods.options import DirectionOptions, SplitOption, SteppingDirectionOptions, find_split
from spry.federated.methods.registry import Setup, method
from spry.federated.split import everything
from spry.optim.named import Named

PAPER = "Panchal et al. 2024, arXiv 2405.15551"


@method("spry", paper=PAPER, client=Named("adamw", 1e-3), server=Named("yogi", 1e-2), sums=True)
@dataclass(frozen=True, kw_only=True)
class Spry(SteppingDirectionOptions):
    """Forward-mode gradients of dealt slices, united by an adaptive server."""

    split: SplitOption = "cyclic"

    def build(self, setup: Setup) -> Algorithm:
        return compose(
            name=setup.name,
            units=setup.units,
            estimator=projected(forward_mode, self.spec(setup), self.num_directions),
            client=setup.client,
            server=setup.server,
            split=find_split(self.split),
            replayed=self.replayed_if_sent(setup),
            transforms=setup.transforms,
            aggregation=setup.aggregation,
        )


@method("spry_per_iteration", paper=PAPER, server=Named("yogi", 1e-2), sums=True, bounds_examples=True)
@dataclass(frozen=True, kw_only=True)
class SpryPerIteration(DirectionOptions):
    """Spry with one server step a round: clients send slopes at the server's weights."""

    split: SplitOption = "cyclic"

    @property
    def stepper(self) -> Literal["client", "server"]:
        return "server"

    def build(self, setup: Setup) -> Algorithm:
        return compose(
            name=setup.name,
            units=setup.units,
            estimator=projected(setup.example_slopes or forward_mode, self.spec(setup), self.num_directions),
            client=None,
            server=setup.server,
            split=find_split(self.split),
            replayed=self.replayed(setup),
            transforms=setup.transforms,
            aggregation=setup.aggregation,
        )


@method(
    "fedfgd", paper=f"{PAPER}, ablation", client=Named("adamw", 1e-3), server=Named("yogi", 1e-2), sums=True
)
@dataclass(frozen=True, kw_only=True)
class FedFgd(SteppingDirectionOptions):
    """Forward-mode gradients of all weights on every client: Spry without the split."""

    def build(self, setup: Setup) -> Algorithm:
        return compose(
            name=setup.name,
            units=setup.units,
            estimator=projected(forward_mode, self.spec(setup), self.num_directions),
            client=setup.client,
            server=setup.server,
            split=everything,
            replayed=self.replayed_if_sent(setup),
            transforms=setup.transforms,
            aggregation=setup.aggregation,
        )
