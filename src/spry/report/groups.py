"""Sorts runs for showing: by data set and model, then by everything but the seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from spry.federated.traits import BACKPROPAGATING
from spry.report.load import Run


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs that differ in their seed alone.

    Args:
        label: The method, and the settings in which it differs from other groups of the same method, or the name that
            a comparison gave it.
        runs: One a seed.
    """

    label: str
    runs: tuple[Run, ...]

    @property
    def method(self) -> str:
        """The method's name."""
        return self.runs[0].method

    def values(self, key: str) -> list[float]:
        """List one number of the outcomes.

        Args:
            key: A key of ``summary.json``.

        Returns:
            The runs' values, as far as they are known.
        """
        return [value for run in self.runs if (value := run.outcome.get(key)) is not None]

    def mean(self, key: str) -> float | None:
        """Average one number of the outcomes over the seeds.

        Args:
            key: A key of ``summary.json``.

        Returns:
            The mean; None if no run knows it.
        """
        values = self.values(key)
        return fmean(values) if values else None

    def spread(self, key: str) -> float | None:
        """Measure how far the seeds differ.

        Args:
            key: A key of ``summary.json``.

        Returns:
            The sample standard deviation; None for fewer than two runs.
        """
        values = self.values(key)
        return stdev(values) if len(values) > 1 else None


@dataclass(frozen=True, kw_only=True)
class Section:
    """What may be compared: runs of one model on one data set.

    Args:
        dataset: The data set.
        model: The model.
        groups: In the order in which their first runs came.
    """

    dataset: str
    model: str
    groups: tuple[Group, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs."""
        return tuple(run for group in self.groups for run in group.runs)

    @property
    def majority(self) -> float | None:
        """The accuracy of always guessing the most frequent class; None if no run knows it yet."""
        known = [value for group in self.groups for value in group.values("majority_accuracy")]
        return fmean(known) if known else None

    @property
    def accuracy(self) -> str:
        """Which accuracy to show first: on the test split, where there is one."""
        tested = any(run.outcome.get("test_accuracy") is not None for run in self.runs)
        return "test_accuracy" if tested else "generalized_accuracy"


def sections(runs: Iterable[Run]) -> tuple[list[Section], list[Run]]:
    """Sort runs.

    Args:
        runs: Any runs.

    Returns:
        The sections in the order in which their first runs came, and the runs left out of them because a run
        with the same settings and seed is there already.
    """
    kept: dict[Hashable, Run] = {}
    repeated = []
    for run in runs:
        key = _frozen(run.config)
        if key in kept:
            repeated.append(run)
        kept.setdefault(key, run)
    places: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in kept.values():
        places[run.config["data.name"], run.config["model.name"]].append(run)
    return [
        Section(dataset=dataset, model=model, groups=tuple(_groups(members)))
        for (dataset, model), members in places.items()
    ], repeated


def _groups(runs: Sequence[Run]) -> list[Group]:
    members: dict[Hashable, list[Run]] = defaultdict(list)
    for run in runs:
        members[_frozen({key: value for key, value in run.config.items() if key != "seed"})].append(run)
    kinds: dict[str, list[list[Run]]] = defaultdict(list)
    for group in members.values():
        kinds[group[0].method].append(group)
    return [
        Group(
            label=_label(group[0], [other[0] for other in kinds[group[0].method]]),
            runs=tuple(sorted(group, key=lambda run: run.config["seed"])),
        )
        for group in members.values()
    ]


def _label(run: Run, same_method: Sequence[Run]) -> str:
    keys = sorted({key for other in same_method for key in other.config} - {"seed"})
    differing = [key for key in keys if len({_frozen(other.config.get(key)) for other in same_method}) > 1]
    name, names = run.method, [_compared_as(other) for other in same_method]
    if len(names) > 1 and None not in names and len(set(names)) == len(names):
        name, differing = names[same_method.index(run)] or name, []
    if run.method in BACKPROPAGATING:
        name += " + checkpointing" if run.config.get("method.checkpoint") else ""
        differing = [key for key in differing if key != "method.checkpoint"]
    return ", ".join([
        name,
        *(f"{key.removeprefix('method.')}={_shown(run.config.get(key))}" for key in differing),
    ])


def _compared_as(run: Run) -> str | None:
    """Under which name a comparison has the run, in a folder NAME-sSEED; None elsewhere."""
    name, _, seed = run.folder.name.rpartition("-s")
    return name if name and seed == str(run.config["seed"]) else None


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "default" if value is None else str(value)


def _frozen(value: Any) -> Hashable:
    if isinstance(value, dict):
        return tuple((key, _frozen(item)) for key, item in sorted(value.items()))
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
