"""Who carries bytes between the server and clients elsewhere: an existing engine, seen as narrowly as Spry needs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol


class Letter(NamedTuple):
    """Bytes for a client.

    Args:
        address: The node that plays the client.
    """

    address: int
    client: int
    data: bytes


class Delivery(NamedTuple):
    """A client's answer; or why there is none, in place of ``data``."""

    client: int
    data: bytes
    failed: str | None = None


class Courier(Protocol):
    def addresses(self) -> Sequence[int]:
        """The nodes that are there now, in ascending order."""
        ...

    def exchange(self, letters: Sequence[Letter], seconds: float) -> Iterator[Delivery]:
        """Carry letters, each to its node and the answer back, and yield answers as they come.

        Whoever has not answered within so many seconds has failed. Each letter gives one delivery at most.
        """
        ...
