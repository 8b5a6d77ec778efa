"""Reads a file into a ``Table``: packed or not, whatever its name says, without leaving a cache behind."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spry.core.errors import DataError
from spry.data import delimited
from spry.data.delimited import parse_delimited
from spry.data.json_rows import parse_json
from spry.data.table import Columns, Table

if TYPE_CHECKING:
    import pyarrow

ENDINGS = {".csv": ",", ".tsv": "\t", ".jsonl": "", ".json": "", ".parquet": ""}
"""File endings that are known, with the separator they promise; each may be followed by an ending of ``PACKED``."""

PACKED: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    ".gz": (b"\x1f\x8b", gzip.decompress),
    ".bz2": (b"BZh", bz2.decompress),
    ".xz": (b"\xfd7zXZ\x00", lzma.decompress),
}
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
}
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_ANY = Columns()


def ending(path: Path) -> str:
    """Find which format a file's name promises: ``.csv`` of ``a.CSV.gz``; empty if it has no ending."""
    name = path.name.lower()
    for packed in PACKED:
        name = name.removesuffix(packed)
    return Path(name).suffix


def read_table(
    path: Path, columns: Columns = _ANY, *, encoding: str | None = None, separator: str | None = None
) -> Table:
    """Read a whole table into memory; content counts, not the name, and the wanted columns tell what separates cells.

    Without an ``encoding``, a text file is read as UTF-8, or as UTF-16 if it begins with a byte order mark.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file. Give the path of an existing file.")
    try:
        content = path.read_bytes()
        size = len(content)
        for magic, unpack in PACKED.values():
            content = unpack(content) if content.startswith(magic) else content
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}). Is it damaged or cut short?") from error
    source, told = str(path), ending(path)
    if content.startswith(b"PAR1"):
        return _parquet(content, source, size)
    for magic, what in _FOREIGN.items():
        if content.startswith(magic):
            raise DataError(f"{source}: is {what}.")
    text = _decoded(content, encoding, source)
    if not text.strip():
        raise DataError(f"{source}: is empty. Give a file with at least one example.")
    if told == ".parquet" and not delimited.heads(text, columns, ",") and text.lstrip()[0] not in "[{":
        raise DataError(f"{source}: is not a Parquet file. Is it damaged, or of another format?")
    return _text(text, told, columns, separator, source, size)


def of_arrow(table: pyarrow.Table, *, source: str, format: str, size: int | None = None) -> Table:
    """Turn Arrow's columns into Python's values; a dictionary-encoded column becomes its values."""
    import pyarrow as pa

    def values(column: pyarrow.ChunkedArray) -> list[Any]:
        if column.type == pa.float32():  # 0.1, not the 0.10000000149011612 that it is in double precision
            column = column.cast(pa.string()).cast(pa.float64())
        return column.to_pylist()

    names = [str(name) for name in table.column_names]
    return Table(
        source=source,
        columns={name: values(table.column(place)) for place, name in enumerate(names)},
        format=format,
        size=size,
        repeated={name for name in names if names.count(name) > 1},
    )


def _parquet(content: bytes, source: str, size: int) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return of_arrow(pq.read_table(BytesIO(content)), source=source, format="Parquet", size=size)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{source}: is not a whole Parquet file. Is it damaged or cut short?") from error


def _decoded(content: bytes, encoding: str | None, source: str) -> str:
    marked = next((name for mark, name in _MARKS.items() if content.startswith(mark)), None)
    chosen = encoding or marked or "utf-8"
    try:
        text = content.decode(chosen)
    except LookupError as error:
        raise DataError(
            f"{source}: {chosen!r} is no encoding that Python knows. Try 'utf-8' or 'cp1252'."
        ) from error
    except UnicodeDecodeError as error:
        if b"\0" in content:
            raise DataError(f"{source}: is not text. Give a file of CSV, TSV, JSON or Parquet.") from error
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{source}: is not {chosen} text (line {line}, byte {error.start}). Give its encoding, which is 'cp1252' "
            "for most files made on Windows, or convert it to UTF-8."
        ) from error
    if "\0" in text:
        raise DataError(f"{source}: is not text, or is UTF-16. Give its encoding, 'utf-16-le' perhaps.")
    return text.removeprefix("\ufeff")


def _text(text: str, told: str, columns: Columns, separator: str | None, source: str, size: int) -> Table:
    is_json = told in {".json", ".jsonl"}
    if text.lstrip()[0] in "{[" and (is_json or separator is None):
        try:
            found, format = parse_json(text, source=source, columns=columns)
            return Table(source=source, columns=found, format=format, size=size)
        except DataError:
            if is_json or not delimited.heads(text, columns, ENDINGS.get(told) or ","):
                raise
    promised = separator or ENDINGS.get(told) or ","
    if is_json and not delimited.heads(text, columns, promised):
        raise DataError(
            f"{source}: is not JSON; it begins with {text.lstrip()[:20]!r}. Is it of another format?"
        )
    chosen = separator or delimited.separator(text, columns, promised)
    if len(chosen) != 1:
        raise DataError(f"{source}: the separator is {chosen!r}. Allowed: one character, such as ';'.")
    return _delimited(text, columns, chosen, source, size)


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
