"""From a configuration to the parts of a run: the only place where names become objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.core.units import Unit
from spry.data import clients, datasets, partition
from spry.data.batches import EvaluationBatches
from spry.data.dataset import Dataset, Splits
from spry.data.federation import Federation
from spry.data.holdout import hold_out
from spry.experiment.config import Config
from spry.federated.algorithm import Algorithm
from spry.federated.ema import averaged
from spry.federated.replay.downlink import Downlink, by_slopes, full
from spry.federated.transforms import Clip, UpdateTransform
from spry.optim.named import Named, optimizer
from spry.optim.transform import Transform
from spry.tasks.classification import ClassificationTask
from spry.tasks.kinds.freed import BitFit, Norm
from spry.tasks.kinds.ia3 import Ia3
from spry.tasks.kinds.kind import Kind
from spry.tasks.kinds.lora import Lora, LoraA
from spry.tasks.kinds.lora_xs import LoraXs
from spry.tasks.kinds.vera import Vera

PEFT: Mapping[str, type[Kind]] = {
    "lora": Lora,
    "lora_a": LoraA,
    "lora_xs": LoraXs,
    "vera": Vera,
    "ia3": Ia3,
    "bitfit": BitFit,
    "norm": Norm,
}
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
        key: Where every draw comes from.
    """

    algorithm: Algorithm
    downlink: Downlink
    task: ClassificationTask
    clients: Federation
    key: Key


def build(config: Config) -> Experiment:
    """Load data and model and put a run together.

    Raises:
        SpryError: If data, model or settings cannot be used as asked.
    """
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
        baseline=_majority(splits),
    )
    algorithm = build_algorithm(config, task.units)
    return Experiment(
        algorithm=algorithm,
        downlink=DOWNLINKS[config.server.send](algorithm),
        task=task,
        clients=_federation(config, splits, task, key),
        key=key,
    )


def build_algorithm(config: Config, units: tuple[Unit, ...]) -> Algorithm:
    """Make the method that a configuration names, for the units of a task.

    Raises:
        ConfigError: If an optimizer is unknown, or named without its step size.
    """
    info = config.method.info
    transforms: tuple[UpdateTransform, ...] = (Clip(config.client.clip),) if config.client.clip else ()
    algorithm = info(
        units,
        client=_optimizer("client", config.client.optimizer, config.client.lr, info.client),
        server=_optimizer("server", config.server.optimizer, config.server.lr, info.server),
        rounds=config.schedule.rounds,
        max_steps=config.client.steps,
        transforms=transforms,
        **(config.method.model_extra or {}),
    )
    return averaged(algorithm, config.server.ema) if config.server.ema else algorithm


def _optimizer(section: str, name: str | None, lr: float | None, own: Named | None) -> Transform | None:
    if name is None and (lr is None or own is None):
        return None  # the method's own, or there is nothing that would step
    if lr is None:
        raise ConfigError(f"{section}.lr is missing: an optimizer that is named needs its step size")
    return optimizer(name or (own.name if own else ""), lr=lr)


def _kind(config: Config) -> Kind:
    kind = PEFT[config.peft.kind]
    known = {field.name for field in fields(kind)}
    head = {"head": "layer", "last_block": "block", "nothing": "layer"}[config.peft.exact]
    given = {**config.peft.model_dump(), "targets": tuple(config.peft.targets) or None, "head": head}
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
        batch_size=config.client.batch_size,
        epochs=config.client.epochs,
        steps=config.client.steps,
    )


def _majority(splits: Splits) -> float:
    """Accuracy on the test part of always giving the training part's commonest answer."""
    assert splits.test is not None
    commonest, _ = Counter(splits.train.labels).most_common(1)[0]
    return sum(label == commonest for label in splits.test.labels) / len(splits.test.labels)
