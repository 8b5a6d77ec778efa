"""The envelope of every message: magic, version, kind, a JSON header, a body.

bytes  0-3  "SPRY"
byte   4    version of the format, 1
byte   5    kind of message
bytes  6-9  length of the header, little endian
then        the header, compact JSON, then the body
"""

from __future__ import annotations

import json
import struct
from typing import Any, NamedTuple

from spry.core.errors import WireError

MAGIC, VERSION = b"SPRY", 1
PREFIX = struct.Struct("<4sBBI")
MOST_HEADER_BYTES = 1 << 20


class Frame(NamedTuple):
    """A message taken apart.

    Args:
        kind: What kind of message it is.
        header: Its JSON object.
        body: The rest.
    """

    kind: int
    header: dict[str, Any]
    body: memoryview


def pack(kind: int, header: dict[str, Any], body: bytes) -> bytes:
    """Put a message together.

    Args:
        kind: What kind of message it is, 0 to 255.
        header: A JSON object.
        body: Any bytes.

    Returns:
        The message.
    """
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    return PREFIX.pack(MAGIC, VERSION, kind, len(text)) + text + body


def unpack(data: bytes) -> Frame:
    """Take a message apart, trusting nothing.

    Args:
        data: The message.

    Returns:
        Its parts; the body is not copied.

    Raises:
        WireError: If it is truncated, of another format or version, or its header is too long or no JSON object.
    """
    if len(data) < PREFIX.size:
        raise WireError(f"message is truncated: {len(data)} bytes, the envelope alone has {PREFIX.size}")
    magic, version, kind, length = PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise WireError(f"message begins with {magic!r}, not with {MAGIC!r}: it is not one of Spry's")
    if version != VERSION:
        raise WireError(
            f"message has version {version}; this Spry speaks version {VERSION}. Update the older side."
        )
    if length > MOST_HEADER_BYTES:
        raise WireError(f"message header asks for {length} bytes; at most {MOST_HEADER_BYTES} are allowed")
    if len(data) < PREFIX.size + length:
        raise WireError(
            f"message is truncated: its header alone needs {PREFIX.size + length} bytes, {len(data)} came"
        )
    view = memoryview(data)[PREFIX.size :]
    try:
        header = json.loads(bytes(view[:length]))
    except (ValueError, RecursionError) as error:
        raise WireError(f"message header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise WireError(f"message header is a JSON {type(header).__name__}, not an object")
    return Frame(kind, header, view[length:])


def count(header: dict[str, Any], field: str, most: int = 2**63 - 1) -> int:
    """Read a count from a header.

    Args:
        header: The header.
        field: Which one.
        most: The greatest value allowed.

    Returns:
        The count, from 0 to ``most``.

    Raises:
        WireError: If it is missing, no integer, or out of range.
    """
    value = header.get(field)
    if type(value) is not int or not 0 <= value <= most:
        raise WireError(f"message header has {field} = {value!r}; it must be an integer from 0 to {most}")
    return value
