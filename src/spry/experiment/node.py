"""What a node of a federation is made of: the configuration that all share, and a file of its own, if it has one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from spry.core.errors import DataError
from spry.core.keys import Key
from spry.data.client_data import ClientData
from spry.data.dataset import Dataset, Splits
from spry.data.examples import build_dataset
from spry.data.files import read_table
from spry.data.places import locate
from spry.data.table import Columns, Table
from spry.data.target import Target
from spry.experiment.adapter import find_adapter_folder
from spry.experiment.build import build, build_task
from spry.experiment.config import Config
from spry.experiment.method import private_algorithm
from spry.experiment.privacy_budget import uncounted
from spry.experiment.privacy_checks import check_noise_is_agreed
from spry.experiment.private import Private
from spry.experiment.schema import AUTO
from spry.federated.algorithm import Algorithm
from spry.runtime.node import ClientNode
from spry.runtime.secure_node import MaskedClient
from spry.tasks.kinds import make_task
from spry.tasks.model_task import ModelTask

NodeFacts = Mapping[str, str | int | float | bool]
"""What a node's operator says of it: ``data``, its file; ``client``, which client it wants to be."""


def build_node(config: Config, facts: NodeFacts) -> ClientNode:
    """Load model and data of a node.

    Raises:
        DataError: If its file is missing, or does not fit what the federation learns.
        ConfigError: If the configuration cannot be used here.
        ModelError: If the model cannot be loaded.
    """
    if config.runtime.threads is not None:
        torch.set_num_threads(config.runtime.threads)
    if config.runtime.data == "nodes":
        return _with_own_data(config, facts)
    adds_noise = config.privacy.mechanism == "local"
    found = adds_noise and config.privacy.noise is None  # by who is asked, which dealt data tells
    experiment = build(config, counted=None if found else uncounted(config.privacy))
    return ClientNode(
        algorithm=experiment.algorithm,
        task=experiment.task,
        clients=experiment.clients,
        key=experiment.key,
        device=config.model.device,
        secure=_masked(experiment.parts),
        head=experiment.parts.head,
        noised=_noised(config, experiment.task, experiment.key, experiment.parts),
        reticent=config.privacy.from_server,
    )


def _with_own_data(config: Config, facts: NodeFacts) -> ClientNode:
    key, mine = Key(config.seed), _number(facts)
    start = None if config.start is None else find_adapter_folder(Path(config.start).expanduser())
    splits = Splits(train=read_own(config, facts.get("data")))
    task = build_task(config, splits, key, start=start)
    dealt = {str(other): np.zeros(0, dtype=np.int32) for other in range(mine)}
    dealt[str(mine)] = np.arange(len(splits.train), dtype=np.int32)
    data = ClientData(
        splits=splits,
        dealt=dealt,
        key=key,
        dealt_by="a node's own",
        held_out=config.data.held_out,
        batch_size=config.client.batch_size,
        epochs=config.client.epochs,
        steps=config.client.steps,
    )
    check_noise_is_agreed(config)
    algorithm, parts = private_algorithm(
        config,
        task.units,
        (mine,),
        1,
        key,
        head=task.kind.head_fit if config.head.start == "closed-form" else None,
        counted=uncounted(config.privacy),
    )
    return ClientNode(
        algorithm=algorithm,
        task=task,
        clients=data.encode(task, max_length=config.model.max_length),
        key=key,
        device=config.model.device,
        client=mine,
        secure=_masked(parts),
        head=parts.head,
        noised=_noised(config, task, key, parts),
        reticent=config.privacy.from_server,
    )


def _noised(config: Config, task: ModelTask, key: Key, parts: Private) -> Callable[[bytes], Algorithm] | None:
    """Let each client that this node plays have a secret of its own, if it adds noise by one."""
    if config.privacy.mechanism != "local" or config.privacy.seed != "secret":
        return None

    def by(secret: bytes) -> Algorithm:
        own = Key(int.from_bytes(secret[:8], "big")).fold(secret.hex())
        return private_algorithm(
            config, task.units, (0,), 1, key, head=None, counted=parts.spending, secret=own
        )[0]  # fmt: skip

    return by


def _masked(parts: Private) -> MaskedClient | None:
    return None if parts.secure is None else MaskedClient(parts.secure)


def _number(facts: NodeFacts) -> int:
    number = facts.get("client", facts.get("partition-id"))
    if not isinstance(number, int) or number < 0:
        raise DataError(
            f"this node's client is {number!r}; give each node another number from 0, on which its draws depend: "
            "--node-config 'data=\"FILE\" client=0'"
        )
    return number


def read_own(config: Config, place: object) -> Dataset:
    """Read a node's file as the federation's configuration says: its columns, task and labels.

    Raises:
        DataError: If there is none, a column is missing, or a label is not one of the federation's.
    """
    if not isinstance(place, str):
        raise DataError(
            "this node has no data of its own: start it with --node-config 'data=\"FILE\" client=0', a file with the "
            f"columns {', '.join((*config.data.text, config.data.label))}"
        )
    if config.task.name == AUTO:
        raise DataError("the federation's task.name is 'auto': write its app with spry flower init")
    data, target = config.data, make_task(config.task.name, config.task.model_extra).target
    columns = target.columns(Columns(text=tuple(data.text), label=data.label))
    table = read_table(locate(place), columns, encoding=data.encoding, separator=data.separator)
    labels = tuple(config.runtime.labels) or None
    if labels:
        _check_labels(table, columns, target, labels)
    return build_dataset(table, columns, name=table.source, names=labels, blank=data.blank, target=target)


def _check_labels(table: Table, columns: Columns, target: Target, allowed: Sequence[str]) -> None:
    """Say at once which labels a file has, and which it may have."""
    said = target.labels(table, columns, tuple(allowed)).values
    found = {one for label in said for one in ([label] if isinstance(label, str) else label) if one}
    if not found:
        raise DataError(
            f"{table.source}: no row has a label in column {columns.label!r}. Allowed: {', '.join(allowed)}"
        )
    if not found <= set(allowed):
        raise DataError(
            f"{table.source}: its labels are {', '.join(sorted(found))}. This federation's are {', '.join(allowed)}: "
            "rename them, or leave other rows out"
        )
