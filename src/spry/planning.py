"""What a run would be, before data or weights are read: its units, who trains which of them, and its memory."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import torch
from torch import nn

from spry.core.keys import Key
from spry.core.units import Unit, names_of
from spry.experiment.build import USUAL_CLIENTS, USUALLY_ASKED, build_adapter
from spry.experiment.config import Config
from spry.experiment.method import build_algorithm
from spry.experiment.privacy_budget import spending
from spry.experiment.private import private
from spry.experiment.schema import AUTO
from spry.federated.privacy.accounting import Spending
from spry.models.adapt import adapt
from spry.models.load import Backbone
from spry.profile.case import Case, MeasuredMethod
from spry.profile.measure import lay_out
from spry.profile.predict import has_formula, predict_peak
from spry.profile.random_model import usual_length
from spry.profile.weight_bytes import weight_bytes
from spry.tasks.kind import TaskKind
from spry.tasks.kinds import make_task

_CLASSES = 4
"""Classes of a head while there is no data that says how many."""
_BACKPROPAGATING = frozenset({"fedavg", "fedyogi", "fedsgd", "local"})
_DIFFERENCES = frozenset({"fedmezo", "baffle", "fwdllm"})
_RIVALS: tuple[MeasuredMethod, ...] = ("inference", "backprop+checkpointing")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run as far as its configuration tells.

    Args:
        clients: How many there are, or at most, where the data decides.
        asked: How many of them are asked in a round.
        units: What is dealt to clients, the head last.
        owners: How many clients of the first round train a unit, by the unit's name.
        held: How many units each client of the first round trains, the head left out.
        weight_bytes: Bytes of the whole model, packed as it is kept.
        method: What ``spry memory`` calls the step of the run's method.
        peaks: Predicted bytes of a step above the model, of that method, of inference and of its rival; none where
            there is no formula.
        length: Tokens of a row for which they hold.
        privacy: What the rounds cost of privacy; None where nothing is counted.
    """

    clients: int
    asked: int
    units: tuple[Unit, ...]
    owners: Mapping[str, int]
    held: tuple[int, ...]
    weight_bytes: int
    method: MeasuredMethod
    peaks: Mapping[MeasuredMethod, int]
    length: int
    privacy: Spending | None = None

    def to_json(self) -> dict[str, Any]:
        """List everything, for JSON."""
        return asdict(self)


def plan_run(config: Config) -> Plan:
    """Plan a run; nothing is downloaded where the model is on this machine or one of the paper's.

    Of ``peft.exact = "auto"`` and ``"last_block"`` the head alone is planned: the last block is found by running the
    model. A classifier is planned with 4 classes.

    Returns:
        The plan.

    Raises:
        ConfigError: If the settings do not fit each other.
        ModelError: If the model cannot be found, or has nothing to adapt.
        PrivacyError: If the rounds cost more privacy than there is.
    """
    case = case_of(config)
    layout = lay_out(case)
    module, units = _adapted(config, layout)
    clients = config.data.clients or USUAL_CLIENTS
    asked = config.schedule.clients_per_round or min(USUALLY_ASKED, clients)
    parts = private(
        config,
        units,
        range(clients),
        asked,
        Key(config.seed),
        factors=config.step_factors.by_group(),
        counted=_spending(config, clients, asked),
    )
    algorithm = build_algorithm(config, units, parts=parts)
    weights = {name: torch.zeros(module.get_parameter(name).shape) for name in names_of(units)}
    orders = algorithm.plan(algorithm.init(weights), range(asked), Key(config.seed))
    trained = [set(order.trained) for order in orders.values()]
    methods = dict.fromkeys((case.method, *_RIVALS)) if has_formula(layout) else ()
    return Plan(
        clients=clients,
        asked=asked,
        units=algorithm.units,
        owners={unit.name: sum(own.issuperset(unit.names) for own in trained) for unit in algorithm.units},
        held=tuple(
            sum(own.issuperset(unit.names) for unit in algorithm.units if not unit.head) for own in trained
        ),
        weight_bytes=sum(weight_bytes(layout, quantization=case.quantization).values()),
        method=case.method,
        peaks={name: predict_peak(replace(case, method=name), layout) for name in methods},
        length=case.length,
        privacy=parts.spending,
    )


def _spending(config: Config, clients: int, asked: int) -> Spending | None:
    """What the rounds cost of privacy, with a head in closed form where the settings allow for one."""
    if config.privacy.mechanism == "none":
        return None
    head = config.head.start != "drawn" and task_of(config).model_class.trains_head
    return spending(config, range(clients), asked, Key(config.seed), head=head)


def task_of(config: Config) -> TaskKind:
    """The task that a configuration names; classification where the data chooses."""
    name = config.task.name
    return make_task("classification" if name == AUTO else name, config.task.model_extra)


def case_of(config: Config) -> Case:
    """A step of the run, as ``spry memory`` measures it."""
    model, client = config.model, config.client
    kind = task_of(config)
    return Case(
        model=model.name,
        method=_step_of(config),
        batch=client.batch_size,
        length=model.max_length or usual_length(model.name, kind.model_class),
        micro_batch=client.micro_batch_size,
        directions=getattr(config.method.options, "num_directions", 1),
        targets=tuple(config.peft.targets),
        task=kind.name,
        dtype=model.dtype,
        quantization=model.quantization,
        device=model.device,
        rank=config.peft.rank,
    )


def _step_of(config: Config) -> MeasuredMethod:
    """What ``spry memory`` calls a method's step."""
    name, options = config.method.name, config.method.options
    if name == "residual":
        return _residual_step(options)
    if name in _BACKPROPAGATING:
        return "backprop+checkpointing"
    return "fedmezo" if name in _DIFFERENCES else "inference" if name == "head_only" else "spry"


def _residual_step(options: object) -> MeasuredMethod:
    if getattr(options, "guess", "identity") != "identity":
        return "residual-full"
    return "residual" if getattr(options, "blocks_per_step", "all") == "all" else "residual-2-blocks"


def _adapted(config: Config, layout: nn.Module) -> tuple[nn.Module, tuple[Unit, ...]]:
    """Adapt a model of the task's class as the run would, on the meta device."""
    from accelerate import init_empty_weights

    kind = task_of(config).model_class
    settings: Any = copy.deepcopy(cast(Any, layout).config)
    if kind.counted:
        settings.num_labels = _CLASSES
    with init_empty_weights():
        model = kind.loader.from_config(settings, dtype=getattr(torch, config.model.dtype))
    model.requires_grad_(False)
    backbone = Backbone(name=config.model.name, model=model, tokenizer=None, newly_initialized=(), kind=kind)
    exact = config.peft.exact if config.peft.exact == "nothing" else "head"
    made = adapt(backbone, build_adapter(config), Key(config.seed), exact=exact)
    return made.module, made.units
