"""Labelled text on its way to clients: loaded, dealt, and only then turned into one model's tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spry.core.errors import DataError
from spry.core.keys import Key
from spry.data import clients, partition
from spry.data.batches import EvaluationBatches
from spry.data.class_target import CLASSES
from spry.data.dataset import Dataset, Splits
from spry.data.datasets import Chooser, load_splits
from spry.data.encoded import Encoded, needed_length
from spry.data.examples import Blank
from spry.data.facts import ClientFacts, TokenFacts
from spry.data.federation import Federation
from spry.data.holdout import hold_out_validation
from spry.data.target import Target

TEST_SHARE = 0.2
"""Share of a data set held out as its test part where the source has none."""


class Encoder(Protocol):
    """What turns text into a model's tokens; a task is one."""

    @property
    def max_length(self) -> int: ...

    def encode(self, dataset: Dataset, *, max_length: int | None) -> Encoded: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class ClientData:
    """Labelled text dealt to clients.

    Args:
        splits: The text; its training part is dealt, its other parts are the server's.
        dealt: Indices of each client's examples, by the client's name.
        key: The run's key: it chooses the examples that clients hold out.
        dealt_by: How it was dealt, in words.
        held_out: Share of each client's examples kept for evaluation, in [0, 1).
        batch_size: Examples per training batch, >= 1.
        epochs: Passes over a client's examples in a round, >= 1.
        steps: Batches a round, >= 1, in place of ``epochs``.
    """

    splits: Splits
    dealt: Mapping[str, NDArray[np.int32]]
    key: Key
    dealt_by: str = "dealt by hand"
    held_out: float = 0.2
    batch_size: int = 8
    epochs: int = 1
    steps: int | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.splits.train.label_names)

    def trainable(self) -> list[int]:
        """The clients that have examples; each keeps at least one of them to train on."""
        return [number for number, places in enumerate(self.dealt.values()) if len(places)]

    def encode(self, task: Encoder, *, max_length: int | None = None) -> Federation:
        """Tokenise all text for a task.

        Args:
            max_length: Tokens after which a text is cut; None takes what 95 % of the training texts do not exceed, as
                far as the model takes as many.
        """
        train = task.encode(self.splits.train, max_length=max_length)
        test, validation = (
            EvaluationBatches(data=task.encode(part, max_length=train.max_length)) if part else ()
            for part in (self.splits.test, self.splits.validation)
        )
        tokens = _token_facts(train, task.max_length, given=max_length is not None)
        return Federation(
            clients=clients.make(self.dealt, train, self.key.fold("held out"), held_out=self.held_out),
            test=test,
            validation=validation,
            batch_size=self.batch_size,
            epochs=self.epochs,
            steps=self.steps,
            facts=replace(self.splits.facts, tokens=tokens, clients=self._client_facts()).with_notes(
                *train.notes
            ),
        )

    def _client_facts(self) -> ClientFacts:
        sizes = [len(places) for places in self.dealt.values()]
        some = [size for size in sizes if size] or [0]
        return ClientFacts(
            number=len(sizes),
            dealt=self.dealt_by,
            least=min(some),
            median=round(median(some)),
            most=max(some),
            empty=sizes.count(0),
            held_out=self.held_out,
        )


def _token_facts(train: Encoded, most: int, *, given: bool) -> TokenFacts | None:
    if train.whole is None or train.max_length is None:
        return None
    return TokenFacts(
        median=round(median(train.whole.tolist())),
        longest=int(train.whole.max()),
        max_length=train.max_length,
        given=given,
        share_cut=train.cut / len(train),
        needed=needed_length(train.whole, most, covered=train.covered),
        covered=train.covered,
        marked=train.marked,
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
            alpha: Dirichlet's concentration over classes, small is uneven; None deals evenly, and so does any on text
                without classes.
            key: Where the draws come from.
            **training: ``held_out``, ``batch_size``, ``epochs`` and ``steps`` of ``ClientData``.

        Raises:
            DataError: If the clients are too many, or an argument is unknown.
        """
        train, here = self.splits.train, key.fold("partition")
        if train.groups is not None:
            dealt, how = partition.natural(train), "by natural ids"
        elif alpha is None or train.strata is None:
            why = "" if alpha is None else ", as there are no classes to deal by"
            dealt, how = partition.iid(train, clients, here), f"iid{why}"
        else:
            dealt, how = partition.dirichlet(train, clients, alpha, here), f"Dirichlet {alpha}"
        try:
            return ClientData(splits=self.splits, dealt=dealt, key=key, dealt_by=how, **training)
        except TypeError as error:
            raise DataError(f"partition was given {sorted(training)}: {error}") from error


def load_dataset(
    source: Any,
    *,
    text: str | Sequence[str] = "text",
    label: str = "label",
    group: str | None = None,
    test: Any = None,
    validation: float = 0.0,
    subset: str | None = None,
    encoding: str | None = None,
    separator: str | None = None,
    blank: Blank = "error",
    target: Target | Chooser = CLASSES,
) -> LabelledText:
    """Load labelled text by name, or take it from memory.

    Args:
        source: ``tweets``, ``polar-tweets`` or ``bbc-news``, a file, a folder, or a Hub name; or a
            ``datasets.Dataset`` or ``DatasetDict``, a pandas frame, a list of dicts, or a dict of lists.
        text: The text column, or two of them for pairs such as premise and hypothesis.
        label: The label column.
        group: The column of natural client ids, if the data is to be dealt by it.
        test: The test part: a file or object of its own, or the name of a part of a Hub data set or ``DatasetDict``;
            where there is none, a fifth of the training part is held out.
        validation: Share of the training part held out to choose by, in [0, 1).
        subset: Which data set, where the Hub has several under a name, as ``mrpc`` of ``glue``.
        encoding: How a text file is encoded; None reads UTF-8, and UTF-16 with a byte order mark.
        separator: What stands between the cells of a text file; None finds it.
        blank: ``"error"`` refuses empty texts, labels and ids, ``"skip"`` leaves their rows out and counts them.
        target: What the labels are, or what chooses that from a table; one class a text if nothing is said.

    Returns:
        The text, to be dealt with ``partition``.

    Raises:
        DataError: If the source cannot be found or read.
    """
    splits = load_splits(
        source,
        text=text,
        label=label,
        group=group,
        test=test,
        test_fraction=TEST_SHARE,
        subset=subset,
        encoding=encoding,
        separator=separator,
        blank=blank,
        target=target,
    )
    return LabelledText(splits=hold_out_validation(splits, validation) if validation else splits)
