"""Examples as immutable values: what every reader returns and every partition deals out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from spry.core.errors import DataError, nearest
from spry.core.keys import Key
from spry.data.class_target import CLASSES
from spry.data.facts import Facts
from spry.data.reading import Reading
from spry.data.target import Target

Text = str | tuple[str, str]
"""One text, or a pair such as premise and hypothesis."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Texts with their labels, in a fixed order.

    Args:
        texts: What a model reads of each example: one text or a pair, never blank, unless the target says otherwise.
        labels: What is learnt of each example, which can be hashed: one class, ``0 .. len(label_names) - 1``, unless
            the target says otherwise.
        label_names: The classes, in the order of their numbers; none for a target without classes.
        groups: Natural client ids, one per example, where the data has them.
        target: What the labels are.
        more: What else the target keeps of each example.
    """

    name: str
    texts: Sequence[Any]
    labels: Sequence[Any]
    label_names: tuple[str, ...] = ()
    groups: Sequence[str] | None = None
    reading: Reading | None = None
    target: Target = CLASSES
    more: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert len(self.texts) == len(self.labels)
        assert self.groups is None or len(self.groups) == len(self.texts)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def counts(self) -> dict[str, int]:
        """How many examples each class has; none without classes."""
        return self.target.counts(self)

    @cached_property
    def strata(self) -> Sequence[int] | None:
        """A class of each example to deal and to hold out by; None if the target has none."""
        return self.target.strata(self.labels)

    def select(self, indices: Iterable[int]) -> Dataset:
        """Keep the examples at these places, in the order given, and all classes."""
        kept = [int(index) for index in indices]
        return replace(
            self,
            texts=[self.texts[i] for i in kept],
            labels=[self.labels[i] for i in kept],
            groups=None if self.groups is None else [self.groups[i] for i in kept],
            more={what: [found[i] for i in kept] for what, found in self.more.items()},
        )

    def relabelled(self, order: Sequence[str]) -> Dataset:
        """Number the classes in another order, such as a checkpoint's, which may have more classes than the data."""
        if len(set(order)) < len(order):
            raise DataError(
                f"{self.name}: the order of the classes names one of them twice: {', '.join(order)}."
            )
        for name in self.label_names:
            if name not in order:
                raise DataError(
                    f"{self.name}: has the class {name!r}, which is not among the {len(order)} classes whose order "
                    f"was asked for. {nearest(name, order)}"
                )
        numbers = [list(order).index(name) for name in self.label_names]
        return replace(self, labels=self.target.relabelled(self.labels, numbers), label_names=tuple(order))


@dataclass(frozen=True, kw_only=True)
class Splits:
    """A data set for training, and its test part, ``official`` if it is the source's own, where there is one.

    Args:
        validation: What was held out of the training part to choose by.
        duplicates: Examples dropped from ``train`` because their texts are in a part that was held out.
        test_unused: Test examples that were left out, because fewer were asked for.
        validation_unused: The same of the validation part.
        without_effect: What was asked for in vain, a sentence each.
    """

    train: Dataset
    test: Dataset | None = None
    validation: Dataset | None = None
    official: bool = False
    duplicates: int = 0
    test_unused: int = 0
    validation_unused: int = 0
    without_effect: tuple[str, ...] = ()

    def shortened(self, most: int) -> Splits:
        """Keep so many random examples of the test and validation parts, the same for every seed.

        So runs are compared on one test.
        """
        test, validation = (part and _some(part, most) for part in (self.test, self.validation))
        return replace(
            self,
            test=test,
            validation=validation,
            test_unused=self.test_unused + len(self.test or ()) - len(test or ()),
            validation_unused=self.validation_unused + len(self.validation or ()) - len(validation or ()),
        )

    def relabelled(self, order: Sequence[str]) -> Splits:
        test, validation = (part and part.relabelled(order) for part in (self.test, self.validation))
        return replace(self, train=self.train.relabelled(order), test=test, validation=validation)

    @property
    def _parts(self) -> dict[str, Dataset]:
        parts = {"train": self.train, "test": self.test, "validation": self.validation}
        return {name: part for name, part in parts.items() if part is not None}

    @cached_property
    def facts(self) -> Facts:
        tested = set() if self.test is None else set(self.test.texts)
        labels: dict[Any, set[Any]] = {}
        for text, label in zip(self.train.texts, self.train.labels, strict=True):
            labels.setdefault(text, set()).add(label)
        readings = [part.reading for part in (self.train, self.test) if part is not None]
        return Facts(
            readings=tuple(dict.fromkeys(reading for reading in readings if reading is not None)),
            train=self.train.counts,
            test=None if self.test is None else self.test.counts,
            validation=None if self.validation is None else self.validation.counts,
            sizes={name: len(part) for name, part in self._parts.items()},
            labels=self.train.target.describe(self.train),
            official=self.official,
            duplicates=self.duplicates,
            overlap=sum(text in tested for text in self.train.texts),
            contradictions=sum(len(found) > 1 for found in labels.values()),
            test_unused=self.test_unused,
            validation_unused=self.validation_unused,
            without_effect=self.without_effect,
        )

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256, in hex, of all texts, labels, classes and client ids in their order."""
        digest = hashlib.sha256()
        for part in (self.train, self.test, *([] if self.validation is None else [self.validation])):
            content = None if part is None else _content(part)
            digest.update(repr(content).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


def _some(part: Dataset, most: int) -> Dataset:
    if len(part) <= most:
        return part
    return part.select(sorted(Key(0).permutation(len(part), "test examples")[:most]))


def _content(part: Dataset) -> tuple[object, ...]:
    groups = None if part.groups is None else list(part.groups)
    more = [(what, list(found)) for what, found in sorted(part.more.items())]
    return (list(part.texts), list(part.labels), part.label_names, groups, *([more] if more else []))
