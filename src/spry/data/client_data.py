"""Labelled text on its way to clients: loaded, dealt, and only then turned into one model's tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spry.core.errors import DataError
from spry.core.keys import Key
from spry.data import clients, partition
from spry.data.batches import EvaluationBatches
from spry.data.dataset import Dataset, Splits
from spry.data.datasets import load_splits
from spry.data.encoded import Encoded
from spry.data.federation import Federation
from spry.data.holdout import hold_out_validation

TEST_SHARE = 0.2
"""Share of a data set held out as its test part where the source has none."""


class Encoder(Protocol):
    """What turns text into a model's tokens; a task is one."""

    @property
    def max_length(self) -> int: ...

    def encode(self, dataset: Dataset, *, max_length: int) -> Encoded: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class ClientData:
    """Labelled text dealt to clients.

    Args:
        splits: The text; its training part is dealt, its other parts are the server's.
        dealt: Indices of each client's examples, by the client's name.
        key: The run's key: it chooses the examples that clients hold out.
        held_out: Share of each client's examples kept for evaluation, in [0, 1).
        batch_size: Examples per training batch, >= 1.
        epochs: Passes over a client's examples in a round, >= 1.
        steps: Batches a round, >= 1, in place of ``epochs``.
    """

    splits: Splits
    dealt: Mapping[str, NDArray[np.int32]]
    key: Key
    held_out: float = 0.2
    batch_size: int = 8
    epochs: int = 1
    steps: int | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.splits.train.label_names)

    def encode(self, task: Encoder, *, max_length: int | None = None) -> Federation:
        """Tokenise all text for a task, cut after ``max_length`` tokens: by default what the model takes."""
        length = min(max_length or task.max_length, task.max_length)
        train = task.encode(self.splits.train, max_length=length)
        test, validation = (
            EvaluationBatches(data=task.encode(part, max_length=length)) if part else ()
            for part in (self.splits.test, self.splits.validation)
        )
        return Federation(
            clients=clients.make(self.dealt, train, self.key.fold("held out"), held_out=self.held_out),
            test=test,
            validation=validation,
            batch_size=self.batch_size,
            epochs=self.epochs,
            steps=self.steps,
            notes=tuple(train.notes()),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledText:
    splits: Splits

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.splits.train.label_names)

    def partition(
        self, *, clients: int = 100, alpha: float | None = 1.0, key: Key = Key(0), **training: Any
    ) -> ClientData:
        """Deal the training part to clients.

        Args:
            clients: How many; of no effect on text that was loaded with a ``group`` column, which has its own.
            alpha: Dirichlet's concentration over classes, small is uneven; None deals evenly.
            key: Where the draws come from.
            **training: ``held_out``, ``batch_size``, ``epochs`` and ``steps`` of ``ClientData``.

        Raises:
            DataError: If the clients are too many, or an argument is unknown.
        """
        train, here = self.splits.train, key.fold("partition")
        if train.groups is not None:
            dealt = partition.natural(train)
        elif alpha is None:
            dealt = partition.iid(train, clients, here)
        else:
            dealt = partition.dirichlet(train, clients, alpha, here)
        try:
            return ClientData(splits=self.splits, dealt=dealt, key=key, **training)
        except TypeError as error:
            raise DataError(f"partition was given {sorted(training)}: {error}") from error


def load_dataset(
    name: str,
    *,
    text: str | Sequence[str] = "text",
    label: str = "label",
    group: str | None = None,
    test: str | None = None,
    validation: float = 0.0,
) -> LabelledText:
    """Load labelled text by the name of a built-in data set, the path of a file, or a name on the Hub.

    Args:
        name: ``tweets`` or ``bbc-news``, a file, or a Hub name.
        text: The text column, or two of them for pairs such as premise and hypothesis.
        label: The label column.
        group: The column of natural client ids, if the data is to be dealt by it.
        test: A file with the test part beside a file, the name of a part for a Hub data set; where there is none, a
            fifth of the training part is held out.
        validation: Share of the training part held out to choose by, in [0, 1).

    Returns:
        The text, to be dealt with ``partition``.

    Raises:
        DataError: If the source cannot be found or read.
    """
    splits = load_splits(name, text=text, label=label, group=group, test=test, test_fraction=TEST_SHARE)
    return LabelledText(splits=hold_out_validation(splits, validation) if validation else splits)
