"""The bound every other method has to beat: the exact head over a frozen backbone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from spry.estimators.exact import exact_head
from spry.federated.algorithm import Algorithm, compose
from spry.federated.methods.registry import Options, Setup, method
from spry.federated.split import head_only
from spry.optim.named import Named


@method(
    "head_only",
    paper="linear probing, the usual baseline",
    client=Named("adamw", 1e-3),
    server=Named("sgd", 1.0),
    reference=True,
    sums=True,
)
@dataclass(frozen=True, kw_only=True)
class HeadOnly(Options):
    """The head's exact gradient and a frozen backbone: the bound every other method has to beat."""

    clients_step: Annotated[
        bool, Field(description="Whether clients take local steps; if not, the server takes one a round.")
    ] = True

    @property
    def stepper(self) -> Literal["client", "server"]:
        return "client" if self.clients_step else "server"

    def build(self, setup: Setup) -> Algorithm:
        return compose(
            name=setup.name,
            units=[unit for unit in setup.units if unit.head],
            estimator=exact_head(),
            client=setup.client if self.clients_step else None,
            server=setup.server,
            split=head_only,
            transforms=setup.transforms,
            aggregation=setup.aggregation,
        )
