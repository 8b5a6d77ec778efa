"""From a configuration to the parts of a run: the only place where names become objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.units import Unit
from spry.data.client_data import TEST_SHARE, ClientData, LabelledText
from spry.data.dataset import Splits
from spry.data.datasets import load_splits
from spry.data.facts import Facts
from spry.data.federation import Federation
from spry.data.holdout import hold_out_validation
from spry.data.reading import quantity
from spry.experiment.adapter import describe_start, find_adapter_folder
from spry.experiment.config import Config
from spry.experiment.given import NOTHING, Given
from spry.experiment.head_choice import starts_in_closed_form
from spry.experiment.method import build_algorithm, private_algorithm
from spry.experiment.privacy_budget import uncounted
from spry.experiment.private import NOT_PRIVATE, Private, private
from spry.experiment.schema import AUTO, DataSettings, TaskSettings
from spry.experiment.without_effect import evened_out, idle_factors, idle_peft, without_effect
from spry.federated.algorithm import Algorithm
from spry.federated.privacy.accounting import Spending
from spry.federated.replay.downlink import Downlink, by_slopes, full
from spry.federated.spares import with_spares
from spry.models.adapters import Adapter, find_adapter
from spry.models.device import check_device
from spry.models.quantized.kinds import find_packing
from spry.models.sources import find_source
from spry.runtime.sampling import sample
from spry.tasks.kind import TaskKind
from spry.tasks.kinds import choose_target, make_task
from spry.tasks.model_task import ModelTask
from spry.tasks.score import Score

SIMULATED = ("rounds", "evaluate_every", "personalized")
"""Settings of the schedule that ``simulate`` takes as they are."""
WAITED = ("over_select", "deadline")
"""Those of the runtime."""
USUALLY_ASKED, USUAL_CLIENTS = 10, 100
"""Clients that are asked in a round, and that there are, where nothing is said and the data suffices."""
ANY_UNITS = (
    Unit(name="layer", names=("weight",)),
    Unit(name="last_block", names=("adapter",), head=True, exact=True, last_block=True),
    Unit(name="head", names=("head",), head=True, exact=True),
)
"""Stand for a model's units while there is no model yet."""
DOWNLINKS: Mapping[str, Callable[[Algorithm], Downlink]] = {"weights": full, "slopes": by_slopes}


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The parts of a run.

    Args:
        fingerprint: Of the data.
        notes: For the user before the first round.
        closed_form: Whether the head is fitted before round 1.
        parts: What keeps it private.
    """

    algorithm: Algorithm
    downlink: Downlink
    task: ModelTask
    clients: Federation
    schedule: Mapping[str, Any]
    key: Key
    facts: Facts
    fingerprint: str
    notes: tuple[str, ...]
    closed_form: bool = False
    parts: Private = NOT_PRIVATE

    @property
    def clients_per_round(self) -> int:
        return self.schedule["clients_per_round"]

    def found(self) -> dict[str, Any]:
        """What is so where a setting left it open: clients, how many of them are asked, tokens, where texts are cut."""
        return {**self.facts.summary(), "clients_per_round": self.clients_per_round}


def check_settings(config: Config, given: Given = NOTHING) -> None:
    """Refuse what can be known to be wrong before data and model are loaded."""
    check_device(config.model.device)
    if config.model.quantization is not None:
        find_packing(config.model.quantization, config.model.device)
    build_adapter(config)
    _check_local_tuning(config)
    _check_over_select(config)
    parts = private(
        config,
        ANY_UNITS,
        (0,),
        1,
        Key(0),
        factors=config.step_factors.by_group(),
        counted=uncounted(config.privacy),
    )
    DOWNLINKS[config.server.send](build_algorithm(config, ANY_UNITS, parts=parts))
    if config.start is not None:
        find_adapter_folder(Path(config.start).expanduser())
    if given.model is None:
        find_source(config.model.name)


def build(config: Config, given: Given = NOTHING, *, counted: Spending | None = None) -> Experiment:
    """Make the parts of a run; what takes the least time is checked first, so that mistakes are told early.

    Args:
        counted: What rounds cost of privacy; found if None, unless that waits for clients to come.

    Raises:
        ConfigError: If settings do not fit each other, the data or this machine.
        DataError: If the data cannot be read or dealt.
        ModelError: If the model cannot be loaded or adapted.
    """
    check_settings(config, given)
    if config.runtime.finds_clients:
        counted = uncounted(config.privacy)
    key = Key(config.seed)
    start = None if config.start is None else find_adapter_folder(Path(config.start).expanduser())
    splits = read_splits(config, given)
    dealt = _dealt(config, splits, key)
    asked = _clients_per_round(config, dealt.trainable(), key)
    task = build_task(config, splits, key, given=given, start=start)
    algorithm = build_algorithm(config, task.units)
    clients = dealt.encode(task, max_length=config.model.max_length)
    task.score = with_token_baseline(task, clients)
    task.try_out(next(iter(clients.batches(clients.trainable()[0], 0, key))))
    if config.method.info.needs_blocks:
        _ = task.blocks  # refused now, not in the first round
    closed_form, told = starts_in_closed_form(
        config.head, task, clients, algorithm, adapter=start is not None
    )
    algorithm, parts = private_algorithm(
        config,
        task.units,
        dealt.trainable(),
        asked,
        key,
        head=task.kind.head_fit if closed_form else None,
        counted=counted,
    )
    if config.runtime.over_select:
        algorithm = with_spares(algorithm, asked)
    planned = algorithm.plan(algorithm.init(task.init()), dealt.trainable()[:asked], key)
    algorithm.aggregation.check(planned.values())  # refused now, not in the first round
    assert clients.facts is not None
    facts = clients.facts.with_notes(*without_effect(config.data))
    return Experiment(
        algorithm=algorithm,
        downlink=DOWNLINKS[config.server.send](algorithm),
        task=task,
        clients=clients,
        schedule={
            **{name: getattr(config.schedule, name) for name in SIMULATED},
            **{name: getattr(config.runtime, name) for name in WAITED},
            "clients_per_round": asked,
        },
        key=key,
        facts=facts,
        fingerprint=splits.fingerprint,
        closed_form=closed_form,
        parts=parts,
        notes=(
            *([] if start is None else [describe_start(start)]),
            *facts.notes(),
            *task.notes,
            *idle_peft(config.peft, (field.name for field in fields(find_adapter(config.peft.kind)))),
            *idle_factors(config, task.units, algorithm.units),
            *evened_out(config),
            *told,
            *_choosing(config),
        ),
    )


def _check_local_tuning(config: Config) -> None:
    steps = config.schedule.local_tuning
    if steps and config.method.options.stepper == "server":
        raise ConfigError(
            f"schedule.local_tuning is {steps}, and clients of {config.method.name} take no steps as it is set. Set "
            "schedule.local_tuning = 0, or choose a method whose clients step, such as fedavg or residual."
        )


def _check_over_select(config: Config) -> None:
    privacy = config.privacy
    if config.runtime.over_select and (privacy.mechanism != "none" or privacy.secure_aggregation):
        raise ConfigError(
            f"runtime.over_select is {config.runtime.over_select}, and what privacy costs is counted for "
            "schedule.clients_per_round. Set runtime.over_select=0, and ask more clients in a round"
        )


def build_adapter(config: Config) -> Adapter:
    adapter = find_adapter(config.peft.kind)
    known = {field.name for field in fields(adapter)}
    given = {**config.peft.model_dump(), "targets": tuple(config.peft.targets) or None}
    return adapter(**{name: value for name, value in given.items() if name in known})


def read_splits(config: Config, given: Given = NOTHING) -> Splits:
    """Read the parts of a run's data."""
    data = config.data
    splits = _read(data, given, config.task)
    if data.validation:
        splits = hold_out_validation(splits, data.validation)
    return splits if data.test_examples is None else splits.shortened(data.test_examples)


def _read(data: DataSettings, given: Given, task: TaskSettings) -> Splits:
    if data.partition == "column" and data.column is None:
        raise ConfigError(
            "data.partition is 'column', and data.column is unset. Name the column of client ids: data.column=author"
        )
    return load_splits(
        data.name if given.data is None else given.data,
        text=data.text,
        label=data.label,
        group=data.column if data.partition == "column" else None,
        test=data.test if given.test is None else given.test,
        test_fraction=TEST_SHARE,
        subset=data.subset,
        encoding=data.encoding,
        separator=data.separator,
        blank=data.blank,
        target=choose_target if task.name == AUTO else make_task(task.name, task.model_extra).target,
    )


def _dealt(config: Config, splits: Splits, key: Key) -> ClientData:
    data, client = config.data, config.client
    splits = splits if config.schedule.test else replace(splits, test=None)
    dealt = LabelledText(splits=splits).partition(
        clients=data.clients or _usual_clients(len(splits.train), client.batch_size),
        alpha=data.alpha if data.partition == "dirichlet" else None,
        key=key,
        held_out=data.held_out,
        batch_size=client.batch_size,
        epochs=client.epochs,
        steps=client.steps,
    )
    return replace(dealt, dealt_by=f"by column {data.column!r}") if data.partition == "column" else dealt


def _usual_clients(examples: int, batch_size: int) -> int:
    """As many clients as ``USUAL_CLIENTS``, or fewer where that would leave less than a batch of examples each."""
    return max(1, min(USUAL_CLIENTS, examples // batch_size))


def _clients_per_round(config: Config, trainable: Sequence[int], key: Key) -> int:
    """How many clients are asked in a round: as many as is set, which must be there, else ``USUALLY_ASKED`` or all."""
    asked = config.schedule.clients_per_round or min(USUALLY_ASKED, len(trainable))
    if config.schedule.rounds:
        sample(trainable, asked + config.runtime.over_select, 0, key)
    return asked


def build_task(
    config: Config, splits: Splits, key: Key, *, given: Given = NOTHING, start: Path | None = None
) -> ModelTask:
    """Make the task of a configuration for some data, which says what its outputs are."""
    kind = task_kind(config, splits)
    return ModelTask(
        config.model.name if given.model is None else given.model,
        kind,
        labels=kind.outputs(splits.train),
        key=key.fold("model"),
        adapter=build_adapter(config),
        exact=config.peft.exact,
        micro_batch_size=config.client.micro_batch_size,
        dropout=config.model.dropout,
        tokenizer=given.tokenizer,
        dtype=getattr(torch, config.model.dtype),
        device=config.model.device,
        baseline=baseline(kind, splits),
        start=start,
        quantization=config.model.quantization,
        offload=config.model.offload,
    )


def _choosing(config: Config) -> list[str]:
    """Say on what a round is chosen, and how often, where one is."""
    schedule = config.schedule
    if not schedule.chooses:
        return []
    what = ["the weights with the best validation score are kept"] if schedule.keep == "best" else []
    if schedule.patience is not None:
        what.append(f"the run ends after {quantity(schedule.patience, 'evaluation')} without a better one")
    often = schedule.evaluate_every
    held, every = 100 * config.data.validation, f"every {often} rounds" if often > 1 else "after each round"
    told = ", and ".join(what)
    return [
        f"{told}: {held:.3g} % of the training part is held out for that (data.validation) and "
        f"evaluated {every} (schedule.evaluate_every)."
    ]


def with_token_baseline(task: ModelTask, clients: Federation) -> Score:
    """A task's score; with a baseline that is found from tokens, where that is the kind there is."""
    if task.score.baseline is not None:
        return task.score
    every = (batch for client in clients.trainable() for batch in clients.training_once(client))
    found = task.kind.token_baseline(every, clients.test, len(task.backbone.tokenizer))
    return replace(task.score, baseline=found)


def task_kind(config: Config, splits: Splits) -> TaskKind:
    """The kind of task that a configuration names, or that its data is for."""
    return make_task(splits.train.target.task, config.task.model_extra)


def baseline(kind: TaskKind, splits: Splits) -> float | None:
    """The score on the test part of an answer that needs no model; None without a test part."""
    return None if splits.test is None else kind.baseline(splits.train, splits.test)
