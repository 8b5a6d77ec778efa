"""Messages between two processes of one machine, over a Unix socket that only its owner may open.

Nothing is pickled: each message is MessagePack of one type, and no longer than is allowed.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from spry.core.errors import WireError

MAX_BYTES = 1 << 31
"""Longest message: that of a client with 500 million trained weights."""
_LENGTH = struct.Struct("<Q")
T = TypeVar("T", bound=msgspec.Struct)


class Pipe:
    """One end of a connection; ``TimeoutError`` where the other end says nothing for as long as is waited."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, message: msgspec.Struct) -> None:
        data = msgspec.msgpack.encode(message)
        self._connection.sendall(_LENGTH.pack(len(data)) + data)

    def receive(self, kind: type[T], seconds: float | None = None) -> T | None:
        """Read the next message; None where the other end has closed.

        Raises:
            WireError: If it is none of this kind, or too long.
            TimeoutError: If nothing comes within so many seconds.
        """
        self._connection.settimeout(seconds)
        head = self._read(_LENGTH.size)
        if head is None:
            return None
        (length,) = _LENGTH.unpack(head)
        if length > MAX_BYTES:
            raise WireError(f"message has {length} bytes; at most {MAX_BYTES} are read")
        data = self._read(length)
        if data is None:
            return None
        try:
            return msgspec.msgpack.decode(data, type=kind)
        except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors
            raise WireError(f"message is no {kind.__name__}: {error}") from error

    def ready(self) -> bool:
        """Whether the other end has said something, or closed."""
        return bool(select.select([self._connection], [], [], 0)[0])

    def _read(self, length: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < length:
            part = self._connection.recv(min(length - len(parts), 1 << 20))
            if not part:
                return None
            parts += part
        return bytes(parts)

    def close(self) -> None:
        self._connection.close()


@contextmanager
def listening(path: Path) -> Generator[socket.socket]:
    """Open a socket that only this user may connect to; it goes away in the end."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        before = os.umask(0o177)
        try:
            server.bind(str(path))
        finally:
            os.umask(before)
        server.listen()
        try:
            yield server
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def connected(path: Path) -> Generator[Pipe]:
    """Connect to the socket at a path; OSError if nobody listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(path))
        yield Pipe(connection)
