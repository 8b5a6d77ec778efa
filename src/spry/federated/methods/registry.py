"""The table of methods: each owns its options, and everything else asks here.

A method is one frozen dataclass of options with a ``build``, registered by ``@method``. The configuration's table
``[method]`` is validated by that class, and nothing else knows its fields.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from spry.core.errors import ConfigError, nearest
from spry.core.plugins import load_plugins
from spry.core.units import Unit, names_of
from spry.core.wording import told
from spry.estimators.slopes import Slope
from spry.federated.algorithm import Algorithm
from spry.federated.robust import PLAIN_MEAN, Aggregation
from spry.federated.step_sizes import Decay, StepSizes, round_by_round, without
from spry.federated.summing import Summing, summed
from spry.federated.transforms import UpdateTransform
from spry.optim.named import Named
from spry.optim.transform import Transform, scaled


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What every method is built from, beside its own options.

    Args:
        rounds: Rounds of the run, for step sizes that change over them; 0 if that is not known.
        max_steps: Most local steps of a client in a round; None if that is not known.
        step_decay: How the step size of whoever steps falls over the rounds; the optimizers here have it in them.
        frozen: The weights that are left out of orders, because their step size is 0.
        transforms: Changes to updates on their way.
        example_slopes: What bounds each example's slopes, for methods that can; None leaves them as they are.
        aggregation: How the server unites replies.
    """

    name: str
    units: tuple[Unit, ...]
    client: Transform
    server: Transform
    rounds: int = 0
    step_decay: Decay = "none"
    frozen: frozenset[str] = frozenset()
    max_steps: int | None = None
    transforms: tuple[UpdateTransform, ...] = ()
    example_slopes: Slope | None = None
    aggregation: Aggregation = PLAIN_MEAN

    @property
    def trained(self) -> tuple[Unit, ...]:
        """The units that are not frozen."""
        return tuple(unit for unit in self.units if self.frozen.isdisjoint(unit.names))


@dataclass(frozen=True, kw_only=True)
class Options(ABC):
    """What a method may be told beyond its name."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    @abstractmethod
    def build(self, setup: Setup) -> Algorithm: ...

    @property
    def stepper(self) -> Literal["client", "server"]:
        """Whose step size matters most, and takes the factors of groups and rounds."""
        return "client"


@dataclass(frozen=True, kw_only=True)
class MethodInfo:
    """A method of the table; calling it makes its algorithm.

    Args:
        name: What it is called in configurations.
        options: The class of its options.
        paper: Where it comes from.
        client: The clients' default optimizer; None if they take no steps.
        server: The server's default optimizer; None if it takes no step.
        backpropagates: Whether clients run a backward pass through the whole model.
        plans_rounds: Whether its steps depend on how many rounds there will be, so that a run cannot be made longer.
        reference: Whether it is no rival but a bound: it does not train the backbone, or does not federate.
        needs_blocks: Whether the model must have residual blocks.
        sums: Whether the server needs no more than the sum of its replies.
        bounds_examples: Whether it can bound what a single example adds to a reply.
    """

    name: str
    options: type[Options]
    paper: str
    client: Named | None = None
    server: Named | None = None
    backpropagates: bool = False
    plans_rounds: bool = False
    reference: bool = False
    needs_blocks: bool = False
    sums: bool = False
    bounds_examples: bool = False

    @property
    def summary(self) -> str:
        """The first sentence of its options' docstring."""
        return (self.options.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")

    @property
    def option_names(self) -> tuple[str, ...]:
        return tuple(field.name for field in fields(self.options))

    def parse(self, given: Mapping[str, Any]) -> Options:
        """Validate options, such as those of a configuration's table; ConfigError if one is unknown or not allowed."""
        for key in given:
            if key not in self.option_names:
                known = nearest(key, self.option_names) if self.option_names else "It has no options."
                raise ConfigError(f"method {self.name!r} has no option {key!r}. {known}")
        try:
            return TypeAdapter(self.options).validate_python(dict(given))
        except ValidationError as error:
            errors = error.errors()
            key = ".".join(map(str, errors[0]["loc"][:1]))
            raise ConfigError(f"setting method.{key} is {given.get(key)!r}: {told(errors, 1)}") from error

    def __call__(
        self,
        units: Iterable[Unit],
        *,
        client: Transform | None = None,
        server: Transform | None = None,
        rounds: int = 0,
        step_factors: Mapping[str, float] | None = None,
        step_decay: Decay = "none",
        max_steps: int | None = None,
        transforms: Sequence[UpdateTransform] = (),
        summing: Summing | None = None,
        example_slopes: Slope | None = None,
        aggregation: Aggregation = PLAIN_MEAN,
        **options: Any,
    ) -> Algorithm:
        """Make the algorithm.

        Args:
            units: The units to train, in the model's order: a task's ``units``.
            client: The clients' optimizer; the method's own if None.
            server: The server's optimizer; the method's own if None.
            rounds: Rounds of the run, for step sizes that change over them; 0 if that is not known.
            step_factors: Factors, each >= 0, on the step size of whoever steps, by group of weights: ``head``,
                ``exact`` (the last block's adapters, where they join the head) and ``body``; 1 for a group that is not
                named, and 0 keeps it at its start.
            step_decay: ``linear`` lets that step size fall over the R rounds, to ``1 - r / R`` of it in round r from 0.
            max_steps: Most local steps of a client in a round; None if that is not known.
            transforms: Changes to updates on their way, such as ``Clip``.
            summing: Lets the server use no more of the replies than their sum.
            example_slopes: How slopes are measured where each example's are bounded.
            aggregation: How the server unites replies.
            **options: The method's own options.

        Raises:
            ConfigError: If an option is unknown, a value is not allowed, or nothing would be trained.
        """
        steps = StepSizes(factors=step_factors or {}, decay=step_decay, rounds=rounds)
        units = tuple(units)
        self._check(summing, example_slopes, aggregation)
        setup = Setup(
            name=self.name,
            units=units,
            client=client or (self.client or _NO_STEP).make(),
            server=server or (self.server or _NO_STEP).make(),
            rounds=rounds,
            step_decay=step_decay,
            frozen=frozenset(names_of(steps.frozen(units))),
            max_steps=max_steps,
            transforms=tuple(transforms),
            example_slopes=example_slopes,
            aggregation=aggregation,
        )
        algorithm = _build(self.parse(options), setup, steps, summing)
        if algorithm.aggregation != aggregation:
            raise ConfigError(
                f"{self.name} has a way of its own to unite replies. Leave server.aggregate at 'mean' and server.clip "
                "unset, or choose another method, such as fedavg or spry"
            )
        return algorithm

    def _check(self, summing: Summing | None, example_slopes: Slope | None, aggregation: Aggregation) -> None:
        if summing is not None and aggregation != PLAIN_MEAN:
            raise ConfigError(
                "privacy lets the server use no more than the sum of replies, of which none can be left out or "
                "shortened. Leave server.aggregate at 'mean' and server.clip unset: privacy.clip bounds what one moves"
            )
        for asked, able, what in (
            (summing, "sums", "needs more of replies than their sum"),
            (example_slopes, "bounds_examples", "cannot bound what a single example adds"),
        ):
            if asked is not None and not getattr(self, able):
                can = ", ".join(name for name, info in METHODS.items() if getattr(info, able))
                raise ConfigError(f"{self.name} {what}, so that privacy cannot be kept. Use one of {can}")


def _build(options: Options, setup: Setup, steps: StepSizes, summing: Summing | None) -> Algorithm:
    if steps.change_nothing(setup.units):
        return _united(options.build(setup), setup, summing)
    algorithm = round_by_round(
        lambda round: _united(options.build(_stepping(options, setup, steps, round)), setup, summing)
    )
    frozen = steps.frozen(setup.units)
    return without(algorithm, frozen) if frozen else algorithm


def _united(algorithm: Algorithm, setup: Setup, summing: Summing | None) -> Algorithm:
    return algorithm if summing is None else summed(algorithm, replace(summing, frozen=setup.frozen))


def _stepping(options: Options, setup: Setup, steps: StepSizes, round: int) -> Setup:
    """Scale the optimizer of whoever steps as it steps in a round; a method's own weights are of no group."""
    factors, others = steps.of_weights(setup.units, round), steps.of_round(round)
    if options.stepper == "client":
        return replace(setup, client=scaled(setup.client, factors, others))
    return replace(setup, server=scaled(setup.server, factors, others))


_NO_STEP = Named("sgd", 1.0)
"""Stands for the optimizer of a side that takes no steps."""


class Methods(dict[str, MethodInfo]):
    """The table of methods, whose members are attributes, too: ``METHODS.fedavg(units)``."""

    def __getattr__(self, name: str) -> MethodInfo:
        if name.startswith("_"):
            raise AttributeError(name)
        return find_method(name)


METHODS = Methods()
"""All methods by name, in the order in which they are listed."""
O = TypeVar("O", bound=type[Options])  # ruff: ignore[ambiguous-variable-name]


def method(name: str, **info: Any) -> Callable[[O], O]:
    """Register a class of options as a method; ``info`` are the other fields of ``MethodInfo``."""

    def register(options: O) -> O:
        assert name not in METHODS, f"two methods are called {name!r}"
        METHODS[name] = MethodInfo(name=name, options=options, **info)
        return options

    return register


def find_method(name: str) -> MethodInfo:
    """Look a method up; for an unknown name, the ConfigError names the nearest."""
    if name not in METHODS:
        load_plugins()
    if name not in METHODS:
        raise ConfigError(f"there is no method {name!r}. {nearest(name, METHODS)}")
    return METHODS[name]
