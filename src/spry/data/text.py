"""Text out of a file's bytes; where the encoding is not UTF-8, the error says which it looks like."""

from __future__ import annotations

import codecs

from spry.core.errors import DataError

_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_SAMPLE = 20  # bytes shown on both sides of one that is not UTF-8


def decoded(content: bytes, encoding: str | None, source: str) -> tuple[str, list[str]]:
    """Read bytes as UTF-8, or UTF-16 if they begin with its mark, or in a given encoding; and say what is odd."""
    marked = next((name for mark, name in _MARKS.items() if content.startswith(mark)), None)
    chosen = encoding or marked or "utf-8"
    try:
        text = content.decode(chosen)
    except LookupError as error:
        raise DataError(
            f"{source}: {chosen!r} is no encoding that Python knows. Try 'utf-8' or 'cp1252'."
        ) from error
    except UnicodeError as error:
        place = error.start if isinstance(error, UnicodeDecodeError) else 0
        raise DataError(f"{source}: {_refusal(content, chosen, place)}") from error
    if "\0" in text:
        raise DataError(f"{source}: {_refusal(content, chosen, content.find(0))}")
    return text.removeprefix("\ufeff"), _doubts(content, encoding, source)


def _refusal(content: bytes, chosen: str, place: int) -> str:
    wide = _wide(content)
    if b"\0" in content and (wide is None or wide == chosen):
        return "is not text. Give a file of CSV, TSV, JSON or Parquet."
    line = content.count(b"\n", 0, place) + 1
    return f"is not {chosen} text (line {line}, byte {place}). {_advice(content, place)}"


def _advice(content: bytes, place: int) -> str:
    guess = _wide(content) or ("cp1252" if _decodes(content, "cp1252") else None)
    name = guess or "NAME"
    told = f'data.encoding={name} (predict and evaluate: --encoding {name}; in Python: encoding="{name}")'
    if guess is None:
        return f"Say how it is encoded, such as in cp1251 or gb18030: {told}."
    if guess != "cp1252":
        return f"It looks like {guess}: set {told}."
    words = _around(content, place)
    return (
        f"In cp1252, which Windows and Excel write, it reads {words!r} there: if that is right, set {told}."
    )


def _around(content: bytes, place: int) -> str:
    """What stands in the same line on both sides of a byte, as cp1252."""
    before = content[max(0, place - _SAMPLE) : place].rpartition(b"\n")[2]
    after = content[place : place + _SAMPLE].partition(b"\n")[0]
    return (before + after).decode("cp1252").strip()


def _wide(content: bytes) -> str | None:
    """Which UTF-16 without a mark it looks like: Latin letters have a zero before or behind each."""
    head = content[:4000]
    even, odd = head[::2].count(0), head[1::2].count(0)
    for name, zeros, others in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        if zeros > len(head) / 4 and not others and _decodes(content, name):
            return name
    return None


def _decodes(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _doubts(content: bytes, encoding: str | None, source: str) -> list[str]:
    """Bytes that happen to be UTF-8, yet not ASCII, are hardly ever anything else."""
    if encoding is None or content.isascii() or not _decodes(content, "utf-8"):
        return []
    if codecs.lookup(encoding).name in {"utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"}:
        return []
    return [f"{source}: was read as {encoding}, as asked, though it is valid UTF-8."]
