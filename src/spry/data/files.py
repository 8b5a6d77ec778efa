"""Reads a file into a ``Table``: packed or not, whatever its name says, without leaving a cache behind."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from spry.core.errors import DataError
from spry.data import delimited
from spry.data.arrow import parquet
from spry.data.delimited import parse_delimited
from spry.data.json_rows import parse_json
from spry.data.plain_text import ENDINGS_OF_TEXT, split_documents
from spry.data.table import Columns, Table
from spry.data.text import decoded

ENDINGS = {".csv": ",", ".tsv": "\t", ".jsonl": "", ".json": "", ".parquet": ""}
"""File endings that are known, with the separator they promise; each may be followed by an ending of ``PACKED``."""

PACKED: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    ".gz": (b"\x1f\x8b", gzip.decompress),
    ".bz2": (b"BZh", bz2.decompress),
    ".xz": (b"\xfd7zXZ\x00", lzma.decompress),
}
ACCEPTED = (
    "CSV, TSV and the like, whose first line names the columns; JSON or JSON Lines; Parquet; each also compressed "
    "by gz, bz2 or xz"
)
"""What a file may be."""
_FOREIGN = {
    b"PK\x03\x04": "an Excel workbook or a zip archive. Save the sheet as CSV (UTF-8), or unpack the archive",
    b"\xd0\xcf\x11\xe0": "an Excel workbook. Save its sheet as CSV (UTF-8)",
    b"ARROW1": "an Arrow file. Save the table as Parquet",
    b"\xff\xff\xff\xff": "a part of a saved data set. Give the folder that holds it, as load_from_disk takes it",
    b"(\xb5/\xfd": "packed by zstd. Unpack it",
    b"SQLite format 3": "a database. Write the table to CSV or Parquet",
    b"%PDF": "a PDF document. Write its texts to CSV or JSON Lines",
    b"\x93NUMPY": "an array of NumPy. Write texts and labels to CSV or JSON Lines",
    b"\x80\x04": "a pickle. Write the table to Parquet or CSV",
    b"\x80\x05": "a pickle. Write the table to Parquet or CSV",
}
_HUB_NAME = re.compile(r"(?![.~/])[\w.-]+(/[\w.-]+)?")
_OTHER_ENDINGS = (
    "txt text dat data tab psv ndjson xls xlsx ods arrow feather pkl pickle zip tar tgz zst 7z db sqlite npy npz h5 md "
    "html xml yaml yml toml log pdf doc docx"
)
_ANY = Columns()


def ending(path: Path) -> str:
    """Find which format a file's name promises: ``.csv`` of ``a.CSV.gz``; empty if it has no ending."""
    name = path.name.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return Path(name).suffix


def looks_local(name: str) -> bool:
    """Whether a name can be meant only as a file or folder, and never as a data set of the Hub."""
    told = ending(Path(name))
    return not _HUB_NAME.fullmatch(name) or told in ENDINGS or told[1:] in _OTHER_ENDINGS.split()


def read_table(
    path: Path, columns: Columns = _ANY, *, encoding: str | None = None, separator: str | None = None
) -> Table:
    """Read a whole table into memory; content counts, not the name, and the wanted columns tell what separates cells.

    Without an ``encoding``, a text file is read as UTF-8, or as UTF-16 if it begins with a byte order mark.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: is a folder or a device. Give the path of a file.")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file. {_neighbour(path)}")
    try:
        content = path.read_bytes()
        size = len(content)
        for magic, unpack in PACKED.values():
            content = unpack(content) if content.startswith(magic) else content
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Is it damaged or cut short?") from error
    source, told = str(path), ending(path)
    if content.startswith(b"PAR1"):
        return parquet(content, source, size)
    for magic, what in _FOREIGN.items():
        if content.startswith(magic):
            raise DataError(f"{source}: is {what}.")
    text, notes = decoded(content, encoding, source)
    if not text.strip():
        raise DataError(f"{source}: is empty. Give a file with at least one example.")
    if told == ".parquet" and not delimited.heads(text, columns, ",") and text.lstrip()[0] not in "[{":
        raise DataError(f"{source}: is not a Parquet file. Is it damaged, or of another format?")
    table = _text(text, told, columns, separator, source, size)
    return replace(table, notes=(*notes, *table.notes))


def _neighbour(path: Path) -> str:
    """Which file beside a missing one was probably meant."""
    if not path.parent.is_dir():
        return f"There is no folder {str(path.parent)!r} either."
    close = get_close_matches(path.name, (file.name for file in path.parent.iterdir()), n=1)
    return f"Did you mean {close[0]!r}?" if close else "Give the path of an existing file."


def _text(text: str, told: str, columns: Columns, separator: str | None, source: str, size: int) -> Table:
    is_json = told in {".json", ".jsonl"}
    if text.lstrip()[0] in "{[" and (is_json or separator is None):
        try:
            found, format = parse_json(text, source=source, columns=columns)
            return Table(source=source, columns=found, format=format, size=size)
        except DataError:
            if is_json or not delimited.heads(text, columns, ENDINGS.get(told) or ","):
                raise
    if is_json and not delimited.heads(text, columns, ","):
        raise DataError(
            f"{source}: is not JSON; it begins with {text.lstrip()[:20]!r}. Is it of another format?"
        )
    if _has_no_columns(text, told, columns, separator):
        found, format = split_documents(text)
        return Table(source=source, columns={columns.text[0]: found}, format=format, size=size)
    text, declared = delimited.declared_separator(text)
    if separator is not None:
        chosen = delimited.given_separator(separator, source)
    else:
        chosen = declared or delimited.separator(text, columns, ENDINGS.get(told) or ",")
        if told not in ENDINGS and not delimited.is_tabular(text, columns, chosen):
            raise DataError(
                f"{source}: is no table; it begins with {text.strip().splitlines()[0][:30]!r}. Allowed: {ACCEPTED}."
            )
    return _delimited(text, columns, chosen, source, size)


def _has_no_columns(text: str, told: str, columns: Columns, separator: str | None) -> bool:
    """Whether text is no table but documents, for a task that reads one column and no labels."""
    alone = len(columns.names) == 1 and separator is None
    return alone and told in ENDINGS_OF_TEXT and not delimited.heads(text, columns, ",")


def _delimited(text: str, columns: Columns, separator: str, source: str, size: int) -> Table:
    names, rows = parse_delimited(text, source=source, columns=columns, separator=separator)
    cells: list[Any] = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in names]
    return Table(
        source=source,
        columns=dict(zip(names, cells, strict=True)),
        format={",": "CSV", "\t": "TSV"}.get(separator, f"CSV with {separator!r}"),
        size=size,
        repeated={name for name in names if names.count(name) > 1},
        hint="The first line must name the columns.",
    )
