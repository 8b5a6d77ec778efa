"""FwdLLM: the server collects gradients at unchanged weights until two halves of them agree, and only then steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.params import Params, add
from spry.core.units import Unit, exact_names, names_of
from spry.estimators.projected import SlopeSpec, projected
from spry.estimators.slopes import Slope, central_difference
from spry.federated.algorithm import Algorithm, ServerState, decode_update
from spry.federated.client import ClientResult, LossOf, accumulate, run_client
from spry.federated.methods.aligned import aligned_directions
from spry.federated.methods.options import DirectionOptions
from spry.federated.methods.registry import Setup, method
from spry.federated.methods.zeroth_order import FdStep
from spry.federated.transforms import Cohort, UpdateTransform, transform_gradient
from spry.optim.named import Named
from spry.optim.rules import warmup_linear
from spry.optim.transform import Transform, chain
from spry.wire.messages import Answer, Order

LAST_GRADIENT = "gradient"
"""The slot of the server's memory with the last gradient: what clients choose their directions by."""
HALVES, PACE = ("half 0", "half 1"), "pace"
SUMMED = ("summed 0", "summed 1")
"""Names in the slot ``pace``, beside ``attempts``: how many examples x directions each half's sum holds."""


@method("fwdllm", paper="Xu et al. 2024, arXiv 2308.13894", server=Named("sgd", 0.1), plans_rounds=True)
@dataclass(frozen=True, kw_only=True)
class FwdLlm(DirectionOptions):
    """Central differences along well-chosen directions, collected until two halves agree."""

    fd_step: FdStep = 1e-2
    threshold: Annotated[
        float, Field(gt=0, description="Variance between the halves below which the server steps.")
    ] = 0.1
    candidates: Annotated[
        int, Field(ge=1, description="Directions drawn for each that is kept, by the last gradient.")
    ] = 10

    @property
    def stepper(self) -> Literal["client", "server"]:
        return "server"

    def build(self, setup: Setup) -> Algorithm:
        server = setup.server
        if (
            setup.rounds and setup.step_decay == "none"
        ):  # a decay that is asked for takes the place of its own
            server = chain(server, warmup_linear(setup.rounds, setup.rounds // 10))
        return paced(
            name=setup.name,
            units=setup.units,
            watched=probe_weight(setup.trained or setup.units),
            slope=central_difference(self.fd_step),
            num_directions=self.num_directions,
            candidates=self.candidates,
            server=server,
            pacing=Pacing(threshold=self.threshold),
            max_steps=setup.max_steps,
            transforms=setup.transforms,
        )


@dataclass(frozen=True, kw_only=True)
class Pacing:
    """When the server steps.

    Args:
        threshold: Variance between the halves below which it steps, > 0.
        devices: Attempts that only add devices, >= 1; each one after them doubles the directions per client.
        attempts: The cap: after so many it steps whatever the variance, >= 1.

    Raises:
        ConfigError: If a setting is out of range.
    """

    threshold: float = 0.1
    devices: int = 3
    attempts: int = 6

    def __post_init__(self) -> None:
        if not self.threshold > 0:
            raise ConfigError(f"the variance threshold is {self.threshold}; it must be greater than 0")
        if self.devices < 1 or self.attempts < 1:
            raise ConfigError(
                f"pacing has devices = {self.devices}, attempts = {self.attempts}; both must be at least 1"
            )

    def directions(self, attempt: int, count: int) -> int:
        """Directions of each client in an attempt (from 0): K while attempts add devices, then 2 K, 4 K, ..."""
        return count * 2 ** max(0, attempt - self.devices + 1)


def probe_weight(units: Sequence[Unit]) -> str:
    """Choose the weight whose variance is watched: the last of the topmost unit (LoRA's B), a head only if alone."""
    return names_of([unit for unit in units if not unit.head] or units)[-1]


def variance(first: Tensor, second: Tensor) -> float:
    """Sample variance of the mean gradients of two halves, averaged over the elements: ``mean((a - b)^2 / 2)``."""
    return float((first.double() - second.double()).square().mean() / 2)


def paced(
    *,
    name: str,
    units: Sequence[Unit],
    slope: Slope,
    num_directions: int,
    candidates: int,
    server: Transform,
    pacing: Pacing,
    max_steps: int | None = None,
    transforms: Sequence[UpdateTransform] = (),
    watched: str | None = None,
) -> Algorithm:
    """Compose FwdLLM: a round of the runtime is one attempt, and the server steps once enough was collected.

    Each attempt asks new devices. Every other one of them belongs to half 0, the rest to half 1. The server steps on
    ``g = sum_i n_i K_i g_i / sum_i n_i K_i`` over all attempts since the last step, and that g is the next guess.

    Args:
        num_directions: K, directions per client and batch at first.
        candidates: How many directions are drawn for each that is kept: the discriminative sampling.
        max_steps: Most local steps of a client; None leaves it to the codec.
        watched: The weight whose variance is watched, one that is trained; chosen by ``probe_weight`` if None.

    Source:
        Xu et al. 2024 (FwdLLM, arXiv 2308.13894).
    """
    watched, exact = watched or probe_weight(units), exact_names(units)

    def spec(order: Order) -> SlopeSpec:
        return SlopeSpec(directions=aligned_directions(order.guess, candidates), exact=exact)

    def init(weights: Params) -> ServerState:
        return ServerState(round=0, weights=weights, optimizer=server.init(weights))

    def plan(state: ServerState, clients: Sequence[int], key: Key) -> dict[int, Order]:
        here, attempt = key.fold("round", state.round), _attempts(state.memory)
        return {
            client: Order(
                round=state.round,
                client=client,
                weights=state.weights,
                trained=names_of(units),
                key=here.fold("client", client),
                num_directions=pacing.directions(attempt, num_directions),
                max_steps=max_steps,
                guess=state.memory.get(LAST_GRADIENT),
                group=place % 2,
            )
            for place, client in enumerate(clients)
        }

    def train(loss_of: LossOf, order: Order, batches: Iterable[Any], examples: int) -> ClientResult:
        training = accumulate(projected(slope, spec(order), order.num_directions))
        return run_client(
            training, loss_of, order, batches, examples, slopes_exact=exact, transforms=transforms
        )

    def absorb(state: ServerState, answers: Iterable[Answer]) -> ServerState:
        collected, taken, examples = _Collected.of(state), 0, 0
        for order, reply in answers:
            gradient = decode_update(accumulate, order, reply, spec(order))
            collected.take(order.group, reply.examples * order.num_directions, gradient)
            taken, examples = taken + 1, examples + reply.examples
        after, attempts = replace(state, round=state.round + 1), _attempts(state.memory) + 1
        if attempts < pacing.attempts and not collected.variance(watched) < pacing.threshold:
            return replace(after, memory={**_guess(state.memory), **collected.memory(attempts)})
        cohort = Cohort(state.round, taken, examples)
        gradient = transform_gradient(transforms, collected.mean(state.weights), cohort)
        updates, optimizer = server.update(gradient, state.optimizer, state.weights)
        return replace(
            after,
            weights=add(state.weights, updates),
            optimizer=optimizer,
            memory={LAST_GRADIENT: _whole(gradient, state.weights)} if gradient else _guess(state.memory),
        )

    return Algorithm(
        name=name,
        units=tuple(units),
        init=init,
        plan=plan,
        train=train,
        absorb=absorb,
        slopes_exact=exact,
        guesses=candidates > 1,
    )


def _attempts(memory: Mapping[str, Params]) -> int:
    return int(memory[PACE]["attempts"]) if PACE in memory else 0


def _whole(gradient: Params, weights: Params) -> Params:
    return {name: gradient.get(name, torch.zeros_like(weight)) for name, weight in weights.items()}


def _guess(memory: Mapping[str, Params]) -> dict[str, Params]:
    return {LAST_GRADIENT: memory[LAST_GRADIENT]} if LAST_GRADIENT in memory else {}


@dataclass
class _Collected:
    """The gradients since the last step, summed by halves in float64."""

    sums: tuple[dict[str, Tensor], dict[str, Tensor]]
    counts: list[int]

    @classmethod
    def of(cls, state: ServerState) -> _Collected:
        """Take up what the state remembers, leaving it as it is."""
        pace = state.memory.get(PACE, {})
        first, second = (
            {name: total.clone() for name, total in state.memory.get(half, {}).items()} for half in HALVES
        )
        return cls((first, second), [int(pace[name]) if name in pace else 0 for name in SUMMED])

    def take(self, half: int, weight: int, gradient: Params) -> None:
        """Add a client's mean gradient; one without examples has no say."""
        if not weight:
            return
        sums = self.sums[half]
        for name, g in gradient.items():
            sums.setdefault(name, torch.zeros_like(g, dtype=torch.float64)).add_(g.double(), alpha=weight)
        self.counts[half] += weight

    def variance(self, name: str) -> float:
        """Compare the halves; infinite while one of them is empty."""
        if not all(self.counts):
            return float("inf")
        means = [sums[name] / count for sums, count in zip(self.sums, self.counts, strict=True)]
        return variance(*means)

    def mean(self, like: Params) -> dict[str, Tensor]:
        """Join the halves; empty if nobody had examples."""
        held = [sums for sums, count in zip(self.sums, self.counts, strict=True) if count]
        total = sum(self.counts)
        return {
            name: (torch.stack([sums[name] for sums in held]).sum(0) / total).to(weight.dtype)
            for name, weight in like.items()
            if held and name in held[0]
        }

    def memory(self, attempts: int) -> dict[str, Params]:
        """Write down what is to be remembered."""
        counts = {name: torch.tensor(count) for name, count in zip(SUMMED, self.counts, strict=True)}
        halves = {half: sums for half, sums in zip(HALVES, self.sums, strict=True) if sums}
        return {PACE: {"attempts": torch.tensor(attempts), **counts}, **halves}
