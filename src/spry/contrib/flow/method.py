"""Flow: clients make a local adapter of the global one, and a policy decides instance by instance between them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field

from spry.contrib.flow import policy
from spry.contrib.flow.answers import RoutedMetrics, Routing, evaluate_routed
from spry.contrib.flow.loss import RoutedLoss, route
from spry.core.keys import Key
from spry.core.params import Params, merge
from spry.core.units import exact_names
from spry.estimators.backprop import backprop
from spry.estimators.carry import Guess
from spry.estimators.estimate import Estimator
from spry.estimators.projected import SlopeSpec, projected
from spry.estimators.residual import residual
from spry.estimators.slopes import forward_mode
from spry.federated.algorithm import Algorithm, ServerState, compose
from spry.federated.client import ClientResult, LossOf, descend, run_client
from spry.federated.methods.registry import Options, Setup, method
from spry.federated.split import everything
from spry.optim.named import Named
from spry.optim.transform import Transform
from spry.wire.messages import Order


@method(
    "flow",
    paper="Panchal et al. 2022, arXiv 2211.15281, routed at the answers",
    client=Named("adamw", 1e-3),
    server=Named("sgd", 1.0),
    backpropagates=True,
)
@dataclass(frozen=True, kw_only=True)
class Flow(Options):
    """A local adapter made anew in each round, and a policy that routes each instance to it or to the global one."""

    gradient: Annotated[
        Literal["backpropagation", "residual", "forward"],
        Field(
            description="How clients get gradients of both adapters: by backpropagation, the residual guess, or "
            "forward mode along random directions; the policy's are exact."
        ),
    ] = "backpropagation"
    checkpoint: Annotated[
        bool, Field(description="Whether a backward pass recomputes activations instead of keeping them.")
    ] = True
    guess: Annotated[Guess, Field(description="How the residual guess is carried down.")] = "identity"
    blocks_per_step: Annotated[
        Annotated[int, Field(ge=0)] | Literal["all"],
        Field(
            description="How many blocks under the last one a step by the residual guess trains, drawn anew."
        ),
    ] = "all"
    num_directions: Annotated[int, Field(ge=1, le=1 << 16, description="K, directions per forward step.")] = 1
    routing: Annotated[
        Routing,
        Field(
            description="What answers outside training: both adapters' probabilities, mixed (soft), or the adapter "
            "with the larger say (hard)."
        ),
    ] = "soft"

    def estimator(self, exact: frozenset[str]) -> Estimator:
        match self.gradient:
            case "backpropagation":
                return backprop(self.checkpoint)
            case "residual":
                return residual(self.guess, self.blocks_per_step)
            case "forward":
                return projected(forward_mode, SlopeSpec(exact=exact), self.num_directions)

    def build(self, setup: Setup) -> Algorithm:
        estimator = self.estimator(exact_names(setup.units) | set(policy.NAMES))
        base = compose(
            name=setup.name,
            units=(*setup.units, policy.policy_unit(_UNKNOWN_WIDTH)),
            estimator=estimator,
            client=setup.client,
            server=setup.server,
            split=everything,
            transforms=setup.transforms,
        )

        def init(weights: Params) -> ServerState:
            return base.init({**weights, **policy.start(weights, setup.units)})

        def train(loss_of: LossOf, order: Order, batches: Iterable[Any], examples: int) -> ClientResult:
            local = train_locally(estimator, setup.client, loss_of, order, batches)

            def routed(batch: Any, key: Key, base: Params) -> RoutedLoss:
                return route(loss_of(batch, key, base), local, order.weights)

            result = run_client(
                descend(estimator, setup.client),
                routed,
                order,
                batches,
                examples,
                transforms=setup.transforms,
            )
            return replace(
                result, weights=local, evaluate=partial(_evaluate, result.weights, local, self.routing)
            )

        return replace(base, init=init, train=train)


_UNKNOWN_WIDTH = 0
"""Units are named before there are weights; a split has no use for this one's size, since every client trains it."""


def train_locally(
    estimator: Estimator, client: Transform, loss_of: LossOf, order: Order, batches: Iterable[Any]
) -> Params:
    """Make a local adapter of the global one that was sent, by one pass over the client's batches; all its weights."""
    trained = tuple(name for name in order.trained if name not in policy.NAMES)
    here = replace(order, trained=trained, key=order.key.fold("local"))
    found = descend(estimator, client)(loss_of, here, batches)
    return merge(order.weights, found.weights)


def _evaluate(
    weights: Params, local: Params, routing: Routing, task: Any, batches: Iterable[Any]
) -> RoutedMetrics:
    return evaluate_routed(task, weights, local, batches, routing)
