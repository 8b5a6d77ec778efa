"""The data sets of the comparison: their files, and what is set for each."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spry.core.errors import DataError
from spry.experiment.atomic import replace_file


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One data set.

    Args:
        title: Its name in tables.
        train: Names of its training files, without ``.tsv.gz``; none of a data set that Spry knows by its key.
        test: Name of its test file, likewise.
        settings: What is set for it beyond ``comparison.toml``.
    """

    title: str
    train: Sequence[str] = ()
    test: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


FIRST = "sst2"
"""What is set for it stands in ``comparison.toml``."""
FINER = {"schedule.evaluate_every": 4, "data.test_examples": 1000}
SETS = {
    FIRST: DataSet(title="SST-2", train=["sst2_train"], test="sst2_dev"),
    "ag_news": DataSet(
        title="AG News",
        train=["ag_news_train"],
        test="ag_news_test",
        settings={**FINER, "data.text": ["text"]},
    ),
    "nli": DataSet(
        title="SNLI + MNLI",
        train=["snli_dev", "mnli_dev_matched"],
        test="snli_test",
        settings={**FINER, "data.text": ["premise", "hypothesis"], "model.max_length": 40},
    ),
    "tweets": DataSet(title="Tweets", settings={**FINER, "data.text": ["text"]}),
}
"""By name."""


def files(name: str, folder: Path, out: Path) -> dict[str, str]:
    """Find the files of a data set; several training files become one.

    Args:
        name: A key of ``SETS``.
        folder: Where the files are.
        out: Where a file made of several is put.

    Returns:
        The settings that name them, or the data set itself.

    Raises:
        DataError: If files that shall become one differ in their columns.
    """
    made = SETS[name]
    if not made.train:
        return {"data.name": name}
    parts = [folder / f"{part}.tsv.gz" for part in made.train]
    train = parts[0] if len(parts) == 1 else _joined(parts, out / f"{name}_train.tsv.gz")
    return {"data.name": str(train), "data.test": str(folder / f"{made.test}.tsv.gz")}


def _joined(parts: Sequence[Path], target: Path) -> Path:
    heads, rows = set[str](), list[str]()
    for part in parts:
        head, *lines = gzip.decompress(part.read_bytes()).decode().rstrip("\n").split("\n")
        heads.add(head)
        rows += lines
    if len(heads) > 1:
        raise DataError(f"{', '.join(map(str, parts))} have different columns: {', '.join(sorted(heads))}")
    target.parent.mkdir(parents=True, exist_ok=True)
    replace_file(target, gzip.compress("\n".join([*heads, *rows, ""]).encode(), mtime=0))
    return target
