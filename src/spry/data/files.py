"""Reads a table from a csv, tsv, jsonl, json or parquet file, gzipped or not, without leaving a cache behind.

``datasets`` would write each file into its cache folder first; pandas, on which it stands, reads in memory.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import pandas as pd

from spry.core.errors import DataError

_AS_WRITTEN: Any = False  # pandas' types do not know this value of dtype, its documentation does
_Reader = Callable[[IO[bytes], str], pd.DataFrame]


def _csv(file: IO[bytes], encoding: str, **options: Any) -> pd.DataFrame:
    table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding=encoding, **options)
    if not isinstance(table.index, pd.RangeIndex):  # pandas would shift the columns without a word
        raise ValueError("the rows have more fields than the first line names")
    return table


def _tsv(file: IO[bytes], encoding: str) -> pd.DataFrame:
    return _csv(file, encoding, sep="\t", quoting=csv.QUOTE_NONE)


def _jsonl(file: IO[bytes], encoding: str) -> pd.DataFrame:
    return pd.read_json(file, lines=True, dtype=_AS_WRITTEN, convert_dates=False, encoding=encoding)


def _json(file: IO[bytes], encoding: str) -> pd.DataFrame:
    return pd.read_json(file, dtype=_AS_WRITTEN, convert_dates=False, encoding=encoding)


def _parquet(file: IO[bytes], _encoding: str) -> pd.DataFrame:
    return pd.read_parquet(file)


READERS: dict[str, _Reader] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _jsonl,
    ".json": _json,
    ".parquet": _parquet,
}
"""File endings that can be read; each may be followed by ``.gz``. A tsv file has no quoting, as in GLUE."""


def ending(path: Path) -> str:
    """Find which format a file's name promises.

    Args:
        path: A file's path; it need not exist.

    Returns:
        The ending without ``.gz``, in lower case, such as ``.csv``; empty if there is none.
    """
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix


def read(path: Path, encoding: str = "utf-8-sig") -> pd.DataFrame:
    """Read a whole table into memory.

    Args:
        path: A file whose ending is in ``READERS``, with or without ``.gz``.
        encoding: How text files are encoded; the default reads UTF-8 with or without a byte order mark.

    Returns:
        The table, one column per field; csv and tsv fields stay text.

    Raises:
        DataError: If the file is missing, its ending unknown, or its content unreadable.
    """
    reader = READERS.get(ending(path))
    if reader is None:
        raise DataError(
            f"{path}: unknown file ending. Allowed: {', '.join(READERS)}, each also with .gz. "
            "Rename the file or convert it."
        )
    if not path.is_file():
        raise DataError(f"{path}: there is no such file. Give the path of an existing file.")
    try:
        content = path.read_bytes()
        if path.name.lower().endswith(".gz"):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}). Is it damaged or cut short?") from error
    try:
        return reader(BytesIO(content), encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: is not {encoding} text ({error.reason} at byte {error.start}). "
            "Convert it to UTF-8, or give its encoding."
        ) from error
    except (ValueError, OSError, LookupError, TypeError) as error:
        raise DataError(f"{path}: is not a readable {ending(path)} table ({error}).") from error
