"""Reads run folders, also of runs in progress."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from spry.core.errors import DataError
from spry.measure.before import with_head
from spry.measure.seconds import client_seconds, total
from spry.report.schema1 import upgrade_config, upgrade_round
from spry.tasks.score import Score

RoundEntry = Mapping[str, Any]
"""One line of ``rounds.jsonl``."""

NO_SETTINGS = frozenset({"base", "methods", "tune"})
"""What a configuration has beside a run's own settings."""
WITHOUT_VALUE = "none"
"""How a setting without a value is written; before, it was left out."""
PARTS = ("test", "validation", "generalized", "personalized")
LOWER_IS_BETTER = frozenset({"loss", "mae", "mse", "perplexity", "rmse"})
"""Until a run's summary says which way its score is good, it is guessed from the name."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run folder's content; ``text`` is its ``config.toml``, and ``summary`` None while it is in progress."""

    folder: Path
    text: str
    meta: Mapping[str, Any]
    rounds: tuple[RoundEntry, ...]
    summary: Mapping[str, Any] | None

    @cached_property
    def config(self) -> dict[str, Any]:
        """The settings by dotted key that are set, without those of comparisons and the name of the recipe."""
        tree = tomllib.loads(self.text)
        flat = _flatten({name: part for name, part in tree.items() if name not in NO_SETTINGS})
        return upgrade_config({key: value for key, value in flat.items() if value != WITHOUT_VALUE})

    @property
    def method(self) -> str:
        return self.config["method.name"]

    @cached_property
    def score(self) -> Score:
        if self.summary is not None:
            return Score.of_summary(self.summary)
        keys = [key for key in (self.rounds[0] if self.rounds else ()) if key.startswith("test_")]
        name = next((key.removeprefix("test_") for key in keys if key != "test_loss"), "accuracy")
        return Score(name=name, higher_is_better=name not in LOWER_IS_BETTER)

    @cached_property
    def local_tuning(self) -> Mapping[str, Any]:
        """What each client gained by local tuning after the last round; nothing if there was none."""
        finished = self.summary is not None and self.summary.get("local_tuning")
        return (_json(self.folder / "local_tuning.json") or {}) if finished else {}

    @property
    def start(self) -> Mapping[str, Any]:
        """Scores and losses before round 1, by their keys, as far as they were evaluated."""
        return (self.rounds[0].get("start") if self.rounds else None) or {}

    @property
    def kept_after(self) -> int | None:
        """After how many rounds the weights are those that are kept, if the run chose them by a score."""
        chose = self.config.get("schedule.keep") == "best"
        return self.summary.get("kept_after_rounds") if chose and self.summary is not None else None

    def details(self, part: str) -> Mapping[str, Any]:
        """What a log has of a part beside the score, such as confusions: of the round that is kept, or the last one."""
        key = f"{part}_details"
        if self.summary is not None:
            return self.summary.get(key) or {}
        return next((entry[key] for entry in reversed(self.rounds) if entry.get(key)), {})

    @cached_property
    def data(self) -> Mapping[str, Any]:
        """What was found of the data, in numbers; nothing of it in folders that older versions wrote."""
        return {**(self.meta.get("data") or {}), **(self.summary or {})}

    @cached_property
    def outcome(self) -> Mapping[str, Any]:
        """The summary, or as much of it as the rounds so far tell; with all clients' seconds of the whole run."""

        def spent(name: str, values: Iterable[float | None]) -> float | None:
            return total(with_head(self.rounds, name, values))

        return {
            **(self.summary or _so_far(self)),
            "client_seconds_total": spent("seconds", client_seconds(self.rounds)),
            "client_cpu_seconds": spent("cpu_seconds", client_seconds(self.rounds, "client_cpu_seconds")),
            "operations": spent("operations", (round.get("operations") for round in self.rounds)),
        }


def read_runs(folders: Iterable[Path]) -> list[Run]:
    """Read run folders, and folders with run folders in them, such as ``spry compare`` writes.

    Each run comes once, in the order given; within a comparison, in its order of methods.
    """
    found: dict[Path, Run] = {}
    for folder in folders:
        places = [folder] if _is_run(folder) else _compared(folder)
        if not places:
            what = "holds no run" if folder.is_dir() else "is no folder"
            raise DataError(f"{folder} {what}. Give a folder that 'spry run' or 'spry compare' wrote.")
        found |= {place.resolve(): read_run(place) for place in places if place.resolve() not in found}
    return list(found.values())


def read_run(folder: Path) -> Run:
    """Read what a run folder holds so far; only ``config.toml`` must be there, else it is a DataError.

    A last line of ``rounds.jsonl`` that is still being written is left out.
    """
    if not _is_run(folder):
        raise DataError(f"{folder} is no run: it has no config.toml. Give a folder that 'spry run' wrote.")
    text = (folder / "config.toml").read_text(encoding="utf-8")
    try:
        run = Run(
            folder=folder,
            text=text,
            meta=_json(folder / "meta.json") or {},
            rounds=tuple(_lines(folder / "rounds.jsonl")),
            summary=_json(folder / "summary.json"),
        )
        for key in ("method.name", "data.name", "model.name", "seed"):
            run.config[key]
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{folder / 'config.toml'} is not TOML: {error}. Run it anew.") from error
    except KeyError as error:
        raise DataError(f"{folder / 'config.toml'} has no setting {error}; it is not a run's.") from error
    return run


def _compared(folder: Path) -> list[Path]:
    comparison = _json(folder / "comparison.json") or {}
    methods = [row["method"] for row in comparison.get("rows", [])]

    def rank(place: Path) -> int:
        method = place.name.rpartition("-s")[0]
        return methods.index(method) if method in methods else len(methods)

    return sorted(sorted(filter(_is_run, folder.glob("*/"))), key=rank)


def _is_run(folder: Path) -> bool:
    return (folder / "config.toml").is_file()


def _json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}. Remove it, or run it anew.") from error


def _lines(path: Path) -> list[RoundEntry]:
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0] if path.is_file() else ""
    rounds = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            rounds.append(upgrade_round(json.loads(line)))
        except ValueError as error:
            raise DataError(
                f"{path}: line {number} is damaged ({error}). Resume the run or run it anew."
            ) from error
    return rounds


def _so_far(run: Run) -> dict[str, Any]:
    rounds = run.rounds
    replies = sum(len(round["clients"]) for round in rounds)
    counted = [
        client["operations"]
        for round in rounds
        for client in round["clients"]
        if client.get("operations") is not None
    ]
    outcome: dict[str, Any] = {
        "rounds": len(rounds),
        "failed_replies": sum(_column(rounds, "failed_replies")),
    }
    outcome |= {key: (_column(rounds, key) or [None])[-1] for key in map(run.score.key, PARTS)}
    if rounds:
        outcome |= {
            "peak_bytes_above_model": max(_column(rounds, "peak_bytes_above_model")),
            "operations_per_client_round": fmean(counted) if counted else None,
            "bytes_up_per_client_round": sum(_column(rounds, "bytes_up")) / max(replies, 1),
            "bytes_down_per_client_round": sum(_column(rounds, "bytes_down")) / max(replies, 1),
        }
    return outcome


def _column(rounds: Sequence[RoundEntry], key: str) -> list[Any]:
    return [round[key] for round in rounds if round.get(key) is not None]


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
