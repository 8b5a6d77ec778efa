"""Labelled text as immutable values: what every reader returns and every partition deals out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

Text = str | tuple[str, str]
"""One text, or a pair such as premise and hypothesis."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Texts with their labels, in a fixed order.

    Args:
        name: What the data set is called in messages and reports.
        texts: One text or pair of texts per example; never blank.
        labels: One class per example, ``0 .. len(label_names) - 1``.
        label_names: What each class is called; at least two.
        groups: Natural client ids, one per example, where the data has them.
    """

    name: str
    texts: Sequence[Text]
    labels: Sequence[int]
    label_names: tuple[str, ...]
    groups: Sequence[str] | None = None

    def __post_init__(self) -> None:
        assert len(self.texts) == len(self.labels)
        assert self.groups is None or len(self.groups) == len(self.texts)

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, indices: Iterable[int]) -> Dataset:
        """Keep the examples at these places, in the order given.

        Args:
            indices: Places of examples.

        Returns:
            A smaller data set over the same classes.
        """
        kept = [int(index) for index in indices]
        return replace(
            self,
            texts=[self.texts[i] for i in kept],
            labels=[self.labels[i] for i in kept],
            groups=None if self.groups is None else [self.groups[i] for i in kept],
        )


@dataclass(frozen=True, kw_only=True)
class Splits:
    """A data set for training, and its test part where there is one.

    Args:
        train: What is dealt out to the clients.
        test: What nobody trains on; None if the source has no test part and none was held out.
        official: True if ``test`` is the source's own test part, False if it was held out of ``train``.
    """

    train: Dataset
    test: Dataset | None = None
    official: bool = False
