"""Sorts runs for showing: by data set, model and score, then by all settings but the seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

from spry.report.read import Run
from spry.tasks.score import Score

PEAKS = frozenset({"peak_bytes_above_model"})
"""Numbers that the worst seed decides."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Runs that differ in their seed alone.

    The label is the method with the settings that set it apart from other groups, or the name that a comparison gave
    it.
    """

    label: str
    runs: tuple[Run, ...]

    @property
    def method(self) -> str:
        return self.runs[0].method

    def values(self, key: str) -> list[float]:
        """The runs' values of a number of the outcomes, as far as they are known."""
        return [value for run in self.runs if (value := run.outcome.get(key)) is not None]

    def across(self, key: str) -> float | None:
        """A number over the seeds: the mean, of peaks the highest; None if no run knows it."""
        values = self.values(key)
        return max(values) if key in PEAKS and values else self.mean(key)

    def mean(self, key: str) -> float | None:
        """Mean over the seeds; None if no run knows the number."""
        values = self.values(key)
        return fmean(values) if values else None

    def std(self, key: str) -> float | None:
        """Sample standard deviation over the seeds; None for fewer than two runs, and of peaks."""
        values = [] if key in PEAKS else self.values(key)
        return stdev(values) if len(values) > 1 else None


@dataclass(frozen=True, kw_only=True)
class Section:
    """Runs that may be compared: of one model on one data set, judged by one score."""

    dataset: str
    model: str
    groups: tuple[Group, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        return tuple(run for group in self.groups for run in group.runs)

    @cached_property
    def score(self) -> Score:
        """What the runs are judged by; the baseline is the mean of those that the runs know."""
        first = next((run for run in self.runs if run.summary is not None), self.runs[0]).score
        known = [run.score.baseline for run in self.runs if run.score.baseline is not None]
        return replace(first, baseline=fmean(known) if known else None)

    @property
    def part(self) -> str:
        """On what to show the score first: the test part, where there is one, else the validation part."""
        return next((part for part in ("test", "validation") if self.knows(part)), "generalized")

    def knows(self, part: str) -> bool:
        """Whether any run was evaluated on a part."""
        return any(run.outcome.get(self.score.key(part)) is not None for run in self.runs)

    @property
    def key(self) -> str:
        """The number of the outcomes to show first."""
        return self.score.key(self.part)


def group_runs(runs: Iterable[Run]) -> tuple[list[Section], list[Run]]:
    """Sort runs into sections, and within them into groups, both in the order of their first runs.

    The second list has the runs left out because a run with the same settings and seed is there already.
    """
    kept: dict[Hashable, Run] = {}
    repeated = []
    for run in runs:
        key = _frozen(run.config)
        if key in kept:
            repeated.append(run)
        kept.setdefault(key, run)
    together: dict[tuple[str, str, str], list[Run]] = defaultdict(list)
    for run in kept.values():
        together[run.config["data.name"], run.config["model.name"], run.score.name].append(run)
    return [
        Section(dataset=dataset, model=model, groups=tuple(_groups(members)))
        for (dataset, model, _), members in together.items()
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
    compared = (run.folder.parent / "comparison.json").is_file()
    if (compared or len(names) > 1) and None not in names and len(set(names)) == len(names):
        name, differing = names[same_method.index(run)] or name, []
    if run.config.get("method.checkpoint"):
        name += " + checkpointing"
    differing = [key for key in differing if key != "method.checkpoint"]
    return ", ".join([
        name,
        *(f"{key.removeprefix('method.')}={_shown(run.config.get(key))}" for key in differing),
    ])


def _compared_as(run: Run) -> str | None:
    """The name that a comparison gave the run, in a folder NAME-sSEED; None elsewhere."""
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
