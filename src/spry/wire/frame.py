"""The envelope of every message: ``SPRY``, the version of the format, the kind of message, then its fields.

Fields are MessagePack in a fixed order without names, read by msgspec into one class a kind: what is missing, more, of
another type or out of range is refused, no key can come twice, and a length costs nothing until its bytes are there.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from spry.core.errors import WireError

MAGIC, VERSION = b"SPRY", 2
_PREFIX = struct.Struct("<4sBB")

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Kind(IntEnum):
    """What a message is."""

    ORDER = 0
    WEIGHTS = 1
    GRADIENT = 2
    SLOPES = 3
    CATCH_UP = 4
    HEAD_QUESTION = 5
    HEAD_SUMS = 6
    HEAD = 7
    ORDER_OF_PART = 8
    HEAD_MOMENTS = 9
    SECURE_KEYS = 10
    SECURE_ROSTER = 11
    SECURE_SHARES = 12
    SECURE_DELIVERY = 13
    SECURE_MASKED = 14
    SECURE_SURVIVORS = 15
    SECURE_SECRETS = 16
    ASSIGNMENT = 20
    REPORT = 21
    REFUSAL = 22
    HEAD_REPORT = 23
    ROLL_CALL = 24
    PRESENT = 25
    SECURE_INVITATION = 26
    SECURE_ASSIGNMENT = 27


class Fields(msgspec.Struct, array_like=True, forbid_unknown_fields=True, kw_only=True):
    """What a kind of message has, in the order in which it is sent."""


F = TypeVar("F", bound=Fields)


def encode_frame(kind: Kind, fields: Fields) -> bytes:
    return _PREFIX.pack(MAGIC, VERSION, kind) + msgspec.msgpack.encode(fields)


def read_kind(data: bytes) -> Kind:
    """Read the envelope; a truncated one, or one of another format, version or kind, is a WireError."""
    if len(data) < _PREFIX.size:
        raise WireError(f"message is truncated: {len(data)} bytes, the envelope alone has {_PREFIX.size}")
    magic, version, kind = _PREFIX.unpack_from(data)
    if magic != MAGIC:
        raise WireError(f"message begins with {magic!r}, not with {MAGIC!r}: it is not one of Spry's")
    if version != VERSION:
        raise WireError(
            f"message has version {version}; this Spry speaks version {VERSION}. Update the older side."
        )
    if kind not in set(Kind):
        raise WireError(f"message is of kind {kind}; known are {', '.join(f'{k} ({k.name})' for k in Kind)}")
    return Kind(kind)


def decode_frame(data: bytes, fields: type[F]) -> F:
    """Read the fields of a message whose kind was read; WireError if they do not fit the class."""
    return decode_fields(memoryview(data)[_PREFIX.size :], fields)


def decode_fields(data: bytes | memoryview, fields: type[F]) -> F:
    """Read fields without an envelope, trusting nothing; WireError if they do not fit the class."""
    try:
        return msgspec.msgpack.decode(data, type=fields)
    except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors
        place = _named(str(error), fields)
        raise WireError(f"message is truncated or malformed: {place}") from error


def _named(told: str, fields: type[Fields]) -> str:
    """Put the names of fields in place of their numbers in what msgspec tells."""
    for place, name in enumerate(fields.__struct_fields__):
        told = told.replace(f"`$[{place}]", f"`{name}")
    return told
