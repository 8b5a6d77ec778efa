"""Labelled text as immutable values: what every reader returns and every partition deals out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from spry.core.errors import DataError, nearest
from spry.core.keys import Key
from spry.data.facts import Facts
from spry.data.reading import Reading

Text = str | tuple[str, str]
"""One text, or a pair such as premise and hypothesis."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Texts with their labels, in a fixed order.

    Args:
        texts: One text or pair of texts per example; never blank.
        labels: One class per example, ``0 .. len(label_names) - 1``.
        groups: Natural client ids, one per example, where the data has them.
    """

    name: str
    texts: Sequence[Text]
    labels: Sequence[int]
    label_names: tuple[str, ...]
    groups: Sequence[str] | None = None
    reading: Reading | None = None

    def __post_init__(self) -> None:
        assert len(self.texts) == len(self.labels)
        assert self.groups is None or len(self.groups) == len(self.texts)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def counts(self) -> dict[str, int]:
        found = Counter(self.labels)
        return {name: found[number] for number, name in enumerate(self.label_names)}

    def select(self, indices: Iterable[int]) -> Dataset:
        """Keep the examples at these places, in the order given, and all classes."""
        kept = [int(index) for index in indices]
        return replace(
            self,
            texts=[self.texts[i] for i in kept],
            labels=[self.labels[i] for i in kept],
            groups=None if self.groups is None else [self.groups[i] for i in kept],
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
        return replace(self, labels=[numbers[label] for label in self.labels], label_names=tuple(order))


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

    @cached_property
    def facts(self) -> Facts:
        tested = set() if self.test is None else set(self.test.texts)
        labels: dict[Text, set[int]] = {}
        for text, label in zip(self.train.texts, self.train.labels, strict=True):
            labels.setdefault(text, set()).add(label)
        readings = [part.reading for part in (self.train, self.test) if part is not None]
        return Facts(
            readings=tuple(dict.fromkeys(reading for reading in readings if reading is not None)),
            train=self.train.counts,
            test=None if self.test is None else self.test.counts,
            validation=None if self.validation is None else self.validation.counts,
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
    return (list(part.texts), list(part.labels), part.label_names, groups)
