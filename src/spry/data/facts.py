"""What a run learns from: what was read, how it was divided, cut and dealt, and what looks odd."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from spry.data.reading import Reading, quantity

_LISTED = 70  # characters of classes with their counts; longer lists are summed up
_LEFT_OUT = {"tokens", "clients", "sizes"}  # of what is kept of a run: a summary says the same
_MUCH = 0.1  # a share of texts that is worth a warning if it is cut


@dataclass(frozen=True, kw_only=True)
class TokenFacts:
    """Tokens of the training texts, the model's own marks included, before anything was cut.

    Args:
        max_length: Tokens after which a text was cut.
        given: Whether that was asked for, rather than found from the texts.
        share_cut: Share of the texts that were cut.
        needed: Tokens that a share of the texts, ``covered``, do not exceed, as far as the model takes as many.
        marked: Texts that write a special token of the model, such as ``[SEP]``; it was read as words.
    """

    median: int
    longest: int
    max_length: int
    given: bool
    share_cut: float
    needed: int
    covered: float = 0.95
    marked: int = 0

    def __str__(self) -> str:
        told = f"tokens: median {self.median:,}, longest {self.longest:,}"
        if not self.share_cut:
            return f"{told}; no text is cut"
        percentile = f"their {100 * self.covered:.0f}th percentile"
        limited = "the most that the model takes" if self.share_cut > 1 - self.covered else percentile
        why = "model.max_length" if self.given else limited
        return f"{told}; {self.share_cut:.1%} of texts are cut, at {self.max_length:,} ({why})"

    def notes(self) -> list[str]:
        notes = []
        if self.share_cut >= _MUCH:
            notes.append(
                f"{self.share_cut:.1%} of the texts are cut at {self.max_length:,} tokens: {self._why()}."
            )
        if self.marked:
            told = quantity(self.marked, "text")
            notes.append(f"{told} with a special token of the model, which was read as words.")
        return notes

    def _why(self) -> str:
        if self.needed > self.max_length:
            share = f"{100 * self.covered:.0f} %"
            return f"unset model.max_length, and it is {self.needed:,}, which {share} of them do not exceed"
        return "the model takes no more"


@dataclass(frozen=True, kw_only=True)
class ClientFacts:
    """How the training examples lie with the clients.

    Args:
        dealt: By what, such as ``Dirichlet 1.0``.
        least: Examples of the smallest client that has any.
        empty: Clients without an example.
        held_out: Share of its examples that each client keeps for evaluation.
    """

    number: int
    dealt: str
    least: int
    median: int
    most: int
    empty: int
    held_out: float

    def __str__(self) -> str:
        many = (
            f"{self.least:,} examples each"
            if self.least == self.most
            else f"{self.least:,} to {self.most:,} examples, median {self.median:,}"
        )
        told = [f"clients: {self.number:,} ({self.dealt}), {many}"]
        told += [f"{self.empty:,} without any"] if self.empty else []
        told += [f"{self.held_out:.0%} of each kept to evaluate on"] if self.held_out else []
        return "; ".join(told)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a data set consists of after reading and dividing, and, once that is done, cutting and dealing.

    Args:
        train: Training examples by class, in the classes' order; none without classes.
        official: Whether the test part is the source's own.
        duplicates: Training examples dropped because their texts are in a part that was held out.
        test_unused: Test examples that were left out, as ``data.test_examples`` asked.
        validation_unused: The same of the validation part.
        overlap: Training examples kept although their texts are in an official test part.
        contradictions: Texts that occur in the training part with more than one label.
        without_effect: What was asked for in vain, a sentence each.
        sizes: Examples of each part, ``train``, ``test`` and ``validation``, where they are not counted by class.
        labels: What the labels are, where they are no classes.
    """

    readings: tuple[Reading, ...]
    train: Mapping[str, int]
    test: Mapping[str, int] | None
    official: bool
    duplicates: int
    overlap: int
    contradictions: int
    validation: Mapping[str, int] | None = None
    test_unused: int = 0
    validation_unused: int = 0
    without_effect: tuple[str, ...] = ()
    tokens: TokenFacts | None = None
    clients: ClientFacts | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    labels: str = ""

    def lines(self) -> list[str]:
        """Tell it at a glance, in three to six lines for humans."""
        told = [": ".join(["data", *filter(None, [", ".join(map(str, self.readings))]), self._divided()])]
        told += [f"classes: {_counted(self.train)}"] if self.train else []
        told += [f"labels: {self.labels}"] if self.labels else []
        told += [str(part) for part in (self.tokens, self.clients) if part is not None]
        out = [str(rows) for reading in self.readings for rows in reading.left_out]
        if self.duplicates:
            out.append(f"{quantity(self.duplicates, 'duplicate')} of held-out texts")
        return [*told, f"left out: {', '.join(out)}"] if out else told

    def notes(self) -> list[str]:
        """What looks odd, was changed, or had no effect, a sentence each."""
        notes = [note for reading in self.readings for note in reading.notes]
        told = {
            "training examples whose texts are in the test part too": self.overlap,
            "texts of the training part with more than one label": self.contradictions,
        }
        notes += [f"{what}: {number:,}." for what, number in told.items() if number]
        notes += self._odd_classes()
        notes += self.tokens.notes() if self.tokens else []
        return [*notes, *self.without_effect]

    def as_dict(self) -> dict[str, Any]:
        """Everything, and ``summary``."""
        known = {name: value for name, value in asdict(self).items() if name not in _LEFT_OUT}
        return {**known, **self.summary()}

    def summary(self) -> dict[str, Any]:
        """What a run was, as against what was set, in numbers."""
        found: dict[str, Any] = {
            f"{part}_examples": self._size(part) for part in ("train", "test", "validation")
        }
        if self.tokens is not None:
            found |= {
                "max_length": self.tokens.max_length,
                "share_cut": self.tokens.share_cut,
                "tokens": {"median": self.tokens.median, "longest": self.tokens.longest},
            }
        if self.clients is not None:
            dealt = self.clients
            found |= {
                "clients": dealt.number,
                "clients_without_examples": dealt.empty,
                "examples_per_client": {"least": dealt.least, "median": dealt.median, "most": dealt.most},
            }
        return found

    def with_notes(self, *notes: str) -> Facts:
        return replace(self, without_effect=(*self.without_effect, *notes))

    def _divided(self) -> str:
        parts = [f"{self._size('train'):,} to train on"]
        for purpose, part, unused, own in (
            ("test", "test", self.test_unused, self.official),
            ("validate", "validation", self.validation_unused, False),
        ):
            used = self._size(part)
            if used is not None:
                some = f"{used:,} of {used + unused:,}" if unused else f"{used:,}"
                parts.append(f"{some}{'' if own else ' held out'} to {purpose} on")
        limit = " (data.test_examples)" if self.test_unused or self.validation_unused else ""
        return ", ".join(parts) + limit

    def _size(self, part: str) -> int | None:
        counts: Mapping[str, int] | None = getattr(self, part)
        return None if counts is None else self.sizes.get(part, sum(counts.values()))

    def _odd_classes(self) -> list[str]:
        empty = [name for name, number in self.train.items() if not number]
        single = [name for name, number in self.train.items() if number == 1]
        untested = [name for name, number in (self.test or {}).items() if not number and self.train.get(name)]
        told = {
            "without a training example": empty,
            "with a single training example": single,
            "without a test example": untested,
        }
        return [
            f"{len(names)} of {len(self.train)} classes {what}, such as {names[0]!r}."
            for what, names in told.items()
            if names
        ]


def _counted(classes: Mapping[str, int]) -> str:
    every = ", ".join(f"{name!r} {number:,}" for name, number in classes.items())
    if len(every) <= _LISTED:
        return f"{len(classes)} ({every})"
    most, least = (choose(classes.items(), key=lambda one: one[1]) for choose in (max, min))
    if most[1] == least[1]:
        first, *_, last = classes
        return f"{len(classes)} ({first!r} to {last!r}, {most[1]:,} each)"
    return f"{len(classes)} (from {most[0]!r} {most[1]:,} to {least[0]!r} {least[1]:,})"
