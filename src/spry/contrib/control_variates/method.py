"""Spry, one server step a round, whose past aggregates take noise away from the next ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from spry.contrib.control_variates.directions import corrected, guided_directions
from spry.contrib.control_variates.memory import GradientEma
from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.params import add
from spry.core.units import exact_names
from spry.estimators.estimate import Estimator
from spry.estimators.projected import SlopeSpec, projected
from spry.estimators.slopes import forward_mode
from spry.federated.aggregate import ClientMean
from spry.federated.algorithm import Algorithm, ServerState, compose, decode_update
from spry.federated.client import ClientResult, LocalTraining, LossOf, accumulate, run_client
from spry.federated.methods.options import DirectionOptions, SplitOption, find_split
from spry.federated.methods.registry import Setup, method
from spry.federated.transforms import transform_gradient
from spry.optim.named import Named
from spry.wire.messages import Answer, Order


@method(
    "spry_control_variate",
    paper="Panchal et al. 2024, arXiv 2405.15551, with a guess of our own",
    server=Named("yogi", 1e-2),
)
@dataclass(frozen=True, kw_only=True)
class SpryControlVariate(DirectionOptions):
    """Spry with one server step a round, whose past aggregates take noise away, unbiasedly."""

    split: SplitOption = "cyclic"
    variate: Annotated[
        Literal["previous", "guided"],
        Field(
            description="Whether the mean of past aggregates is subtracted, or is one of K >= 2 directions."
        ),
    ] = "previous"
    decay: Annotated[float, Field(ge=0, lt=1, description="Decay of the mean of past aggregates.")] = 0.9

    @property
    def stepper(self) -> Literal["client", "server"]:
        return "server"

    def build(self, setup: Setup) -> Algorithm:
        if self.variate == "guided" and self.num_directions < 2:
            raise ConfigError(
                "one of the directions of method.variate = 'guided' is spent on the guess, so method.num_directions "
                f"must be at least 2; it is {self.num_directions}"
            )
        base = compose(
            name=setup.name,
            units=setup.units,
            estimator=projected(forward_mode, self.spec(setup), self.num_directions),
            client=None,
            server=setup.server,
            split=find_split(self.split),
            replayed=self.replayed(setup),
            transforms=setup.transforms,
        )
        return self._remembering(base, setup)

    def _remembering(self, base: Algorithm, setup: Setup) -> Algorithm:
        exact = exact_names(setup.units)
        past = GradientEma(
            beta=self.decay,
            exact=exact | setup.frozen,
            believed=self.num_directions if self.variate == "previous" else 0,
        )

        def spec(order: Order) -> SlopeSpec:
            drawn = {"directions": guided_directions(order.guess)} if self.variate == "guided" else {}
            return SlopeSpec(exact=exact, **drawn)

        def local(order: Order) -> Any:
            def training(estimator: Estimator) -> LocalTraining:
                believed = order.guess if self.variate == "previous" else None
                return accumulate(corrected(estimator, spec(order), believed))

            return training

        def plan(state: ServerState, clients: Sequence[int], key: Key) -> dict[int, Order]:
            return {
                client: replace(
                    order, guess=past.guess(state.memory, order.trained, len(clients), state.round)
                )
                for client, order in base.plan(state, clients, key).items()
            }

        def train(loss_of: LossOf, order: Order, batches: Iterable[Any], examples: int) -> ClientResult:
            estimator = projected(forward_mode, spec(order), self.num_directions)
            return run_client(
                local(order)(estimator), loss_of, order, batches, examples,
                slopes_exact=exact, transforms=setup.transforms,
            )  # fmt: skip

        def absorb(state: ServerState, answers: Iterable[Answer]) -> ServerState:
            mean = ClientMean()
            for order, reply in answers:
                mean.take(reply.examples, decode_update(local(order), order, reply, spec(order)))
            found = mean.read(state.weights)
            gradient = transform_gradient(setup.transforms, found, mean.cohort(state.round))
            updates, optimizer = setup.server.update(gradient, state.optimizer, state.weights)
            return ServerState(
                round=state.round + 1,
                weights=add(state.weights, updates),
                optimizer=optimizer,
                memory=past.take(state.memory, gradient, state.weights),
            )

        return replace(base, plan=plan, train=train, absorb=absorb, guesses=True, remembers=True)
