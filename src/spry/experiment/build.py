"""From a configuration to the parts of a run: the only place where names become objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from spry.core.errors import ConfigError
from spry.core.growth import Growth
from spry.core.keys import Key
from spry.data import clients, datasets, partition
from spry.data.batches import EvaluationBatches
from spry.data.dataset import Dataset, Splits
from spry.data.federation import Federation
from spry.data.holdout import hold_out
from spry.estimators.directions import Directions, basis, gaussian, orthogonal, rademacher
from spry.estimators.slopes import Slope, central_difference, forward_difference
from spry.experiment import fingerprint
from spry.experiment.config import Config
from spry.experiment.device import check_device
from spry.experiment.moved import Moved, moved
from spry.federated.algorithm import Algorithm
from spry.federated.average import averaged
from spry.federated.budget import budgeted
from spry.federated.downlink import Downlink, by_slopes, full
from spry.federated.fwdllm import Pacing
from spry.federated.methods import method
from spry.federated.settings import Settings
from spry.federated.split import Split, contiguous, cyclic, everything
from spry.federated.traits import STEPS
from spry.optim.named import optimizer
from spry.optim.noise import guard
from spry.optim.transform import Transform, chain
from spry.runtime.simulate import Schedule
from spry.tasks.classification import ClassificationTask
from spry.tasks.kinds.freed import BitFit, Norm
from spry.tasks.kinds.ia3 import Ia3
from spry.tasks.kinds.kind import Kind
from spry.tasks.kinds.lora import Lora, LoraA
from spry.tasks.kinds.lora_xs import LoraXs
from spry.tasks.kinds.vera import Vera

DIRECTIONS: Mapping[str, Directions] = {
    "gaussian": gaussian,
    "rademacher": rademacher,
    "orthogonal": orthogonal,
    "basis": basis,
}
PEFT: Mapping[str, type[Kind]] = {
    "lora": Lora,
    "lora_a": LoraA,
    "lora_xs": LoraXs,
    "vera": Vera,
    "ia3": Ia3,
    "bitfit": BitFit,
    "norm": Norm,
}
DIFFERENCES: Mapping[str, Callable[[float], Slope]] = {
    "forward": forward_difference,
    "central": central_difference,
}
SPLITS: Mapping[str, Split] = {"cyclic": cyclic, "contiguous": contiguous, "everything": everything}
DOWNLINKS: Mapping[str, Callable[[Algorithm], Downlink]] = {"weights": full, "slopes": by_slopes}
PARTITIONS: Mapping[str, Callable[[Dataset, Config, Key], Mapping[str, Any]]] = {
    "iid": lambda data, config, key: partition.iid(data, config.data.clients, key),
    "dirichlet": lambda data, config, key: partition.dirichlet(
        data, config.data.clients, config.data.alpha, key
    ),
    "column": lambda data, config, key: partition.natural(data),
}
TEST_SHARE = 0.2
"""Share of a data set held out as its test part where the source has none."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The parts of a run.

    Args:
        algorithm: What is run.
        downlink: How orders reach clients.
        task: Owner of the model.
        clients: Owner of the data.
        schedule: How long to run and when to look.
        key: Where every draw comes from.
        moved: What forward mode moves.
        majority_accuracy: Accuracy on the test part of always answering the training part's commonest class.
        data: The fingerprint of the data.
    """

    algorithm: Algorithm
    downlink: Downlink
    task: ClassificationTask
    clients: Federation
    schedule: Schedule
    key: Key
    moved: Moved
    majority_accuracy: float
    data: str


def build(config: Config) -> Experiment:
    """Load data and model and put a run together.

    Args:
        config: The configuration.

    Returns:
        The parts of the run.

    Raises:
        SpryError: If data, model or settings cannot be used as asked.
    """
    check_device(config.model.device)
    given = settings(config)  # before the minutes that loading may take
    key = Key(config.seed)
    splits = _splits(config)
    task = ClassificationTask(
        config.model.name,
        labels=splits.train.label_names,
        key=key.fold("model"),
        method=_kind(config),
        micro_batch_size=config.client.micro_batch_size,
        dropout=config.model.dropout,
        dtype=getattr(torch, config.model.dtype),
        device=config.model.device,
    )
    what = moved(config, task, PEFT[config.peft.kind].maps, key)
    chosen = replace(given, tap=what.choice, amplitudes=what.amplitudes)
    algorithm = method(config.method.name, task.units, chosen)
    if config.server.average:
        algorithm = averaged(algorithm, config.server.average)
    return Experiment(
        algorithm=algorithm,
        downlink=DOWNLINKS[config.method.downlink](algorithm),
        moved=what,
        task=task,
        clients=_federation(config, splits, task, key),
        schedule=Schedule(
            rounds=config.schedule.rounds,
            clients_per_round=config.schedule.clients_per_round,
            evaluate_every=config.schedule.evaluate_every,
            personalized=config.schedule.personalized,
        ),
        key=key,
        majority_accuracy=_majority(splits),
        data=fingerprint.of_data(splits),
    )


def _kind(config: Config) -> Kind:
    kind = PEFT[config.peft.kind]
    known = {field.name for field in fields(kind)}
    given = {**config.peft.model_dump(), "targets": tuple(config.peft.targets) or None}
    return kind(**{name: value for name, value in given.items() if name in known})


def _splits(config: Config) -> Splits:
    data = config.data
    group = data.column if data.partition == "column" else None
    splits = datasets.load(
        data.name, text=data.text, label=data.label, group=group, test=data.test, test_fraction=TEST_SHARE
    )
    if data.validation:
        splits = hold_out(splits.train, data.validation, part="validation part")
    assert splits.test is not None  # held out of the training part where the source has none
    if data.test_examples is None or data.test_examples >= len(splits.test):
        return splits
    # the same examples for every seed, so that runs are compared on one test
    kept = sorted(Key(0).permutation(len(splits.test), "test examples")[: data.test_examples])
    return replace(splits, test=splits.test.select(kept))


def _federation(config: Config, splits: Splits, task: ClassificationTask, key: Key) -> Federation:
    length = min(config.model.max_length, task.backbone.max_length)
    train = task.encode(splits.train, max_length=length)
    dealt = PARTITIONS[config.data.partition](splits.train, config, key.fold("partition"))
    made = clients.make(dealt, train, key.fold("held out"), held_out=config.data.held_out)
    assert splits.test is not None  # datasets.load held one out
    return Federation(
        clients=made,
        test=EvaluationBatches(data=task.encode(splits.test, max_length=length)),
        batch_size=Growth(
            start=config.client.batch_size,
            factor=config.client.batch_growth,
            phases=config.schedule.phases,
            rounds=config.schedule.rounds,
        ),
        epochs=config.client.epochs,
        steps=config.client.steps,
    )


def _majority(splits: Splits) -> float:
    assert splits.test is not None
    commonest, _ = Counter(splits.train.labels).most_common(1)[0]
    return sum(label == commonest for label in splits.test.labels) / len(splits.test.labels)


def settings(config: Config) -> Settings:
    """Turn the configuration of method and optimizers into values.

    Args:
        config: The configuration.

    Returns:
        What is chosen beyond the method's name.

    Raises:
        ConfigError: If an optimizer is unknown, or named without its step size.
    """
    chosen = config.method
    return Settings(
        client=_client(config),
        server=_optimizer("server", config.server.optimizer, config.server.lr, STEPS[chosen.name].server),
        split=_split(chosen.split, chosen.budgets),
        directions=DIRECTIONS[chosen.directions],
        tied=chosen.tied,
        control=None if chosen.control_variate == "none" else chosen.control_variate,
        pool=chosen.pool,
        decay=chosen.control_decay,
        count=chosen.count,
        growth=chosen.count_growth,
        most=chosen.count_max,
        phases=config.schedule.phases,
        sleep=chosen.sleep,
        difference=DIFFERENCES[chosen.difference] if chosen.difference else None,
        h=chosen.h,
        pacing=Pacing(threshold=chosen.threshold),
        rounds=config.schedule.rounds,
        checkpoint=chosen.checkpoint,
        exact_head=chosen.exact_head,
        slopes_only=chosen.slopes_only,
    )


def _client(config: Config) -> Transform | None:
    client, own = config.client, STEPS[config.method.name].client
    rule = _optimizer("client", client.optimizer, client.lr, own)
    if client.guard is None or own is None:
        return rule
    if rule is None:
        raise ConfigError("client.lr is missing: client.guard is put before an optimizer with its step size")
    return chain(guard(client.guard), rule)


def _split(name: str | None, budgets: Sequence[float]) -> Split | None:
    if budgets:
        return budgeted(budgets)
    return SPLITS[name] if name else None


def _optimizer(section: str, name: str | None, lr: float | None, own: str | None) -> Transform | None:
    if name is None and (lr is None or own is None):
        return None  # the method's own, or there is nothing that would step
    if lr is None:
        raise ConfigError(f"{section}.lr is missing: an optimizer that is named needs its step size")
    return optimizer(name or own or "", lr=lr)
