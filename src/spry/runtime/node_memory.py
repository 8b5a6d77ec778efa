"""What a client elsewhere keeps between two messages: all that it knows, and what it tells nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import msgspec

from spry.core.errors import SpryError
from spry.runtime.report import refuse
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


def answer_from(
    known: bytes | None, answer: Callable[[NodeMemory], tuple[bytes, NodeMemory]]
) -> tuple[bytes, bytes | None]:
    """Answer a message from what a client knows; what cannot be done is said in the answer, and changes nothing.

    Args:
        known: What this function returned last for this client; None at first.
        answer: ``memory -> (answer, memory then)``.

    Returns:
        The answer, and what is to be kept until the next message.
    """
    try:
        memory = NodeMemory.read(known)
        told, after = answer(memory)
        return told, known if after == memory else after.write()
    except SpryError as error:
        return refuse(str(error)), known
