"""What a client elsewhere keeps between two messages: all that it knows, and what it tells nobody."""

from __future__ import annotations

from typing import Self

import msgspec

from spry.wire.frame import Fields, decode_fields


class NodeMemory(Fields):
    """One client's memory. It stays with its node.

    Args:
        state: The state of training that it was told, see ``encode_known``.
        party: What it knows of its session of secure aggregation, see ``encode_party``.
        secret: Where its noise comes from, random bytes of its operating system's.
    """

    state: bytes | None = None
    party: bytes | None = None
    secret: bytes | None = None

    @classmethod
    def read(cls, data: bytes | None) -> Self:
        """Read a memory, empty at first; WireError if it is damaged."""
        return cls() if data is None else decode_fields(data, cls)

    def write(self) -> bytes:
        return msgspec.msgpack.encode(self)
