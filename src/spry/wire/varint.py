"""Counts as bytes, seven bits a byte and the lowest first (LEB128): a count below 128 takes one byte."""

from __future__ import annotations

from collections.abc import Iterable

from spry.core.errors import WireError

MOST_BYTES = 9
"""Enough for counts below 2^63."""


def pack(counts: Iterable[int]) -> bytes:
    """Write counts one after the other.

    Args:
        counts: Each from 0 to ``2^63 - 1``.

    Returns:
        The bytes.
    """
    data = bytearray()
    for count in counts:
        assert 0 <= count < 1 << 63, count
        while count > 127:
            data.append(count & 127 | 128)
            count >>= 7
        data.append(count)
    return bytes(data)


class Reader:
    """Reads counts and runs of bytes from the front of a message's body, trusting nothing.

    Args:
        data: The body; it is not copied.
    """

    def __init__(self, data: bytes | memoryview) -> None:
        self._left = memoryview(data)

    def count(self, most: int = 2**63 - 1) -> int:
        """Read a count.

        Args:
            most: The greatest value allowed.

        Returns:
            The count.

        Raises:
            WireError: If the bytes end within it, or it is greater than allowed.
        """
        value = 0
        for place, byte in enumerate(bytes(self._left[:MOST_BYTES])):
            value |= (byte & 127) << 7 * place
            if byte < 128:
                if value > most:
                    raise WireError(f"message has a count of {value}; at most {most} is allowed")
                self._left = self._left[place + 1 :]
                return value
        raise WireError("message is truncated, or has a count beyond 63 bits")

    def counts(self) -> list[int]:
        """Read how many counts follow, then these.

        Returns:
            The counts.

        Raises:
            WireError: If there are fewer bytes than counts.
        """
        number = self.count(most=len(self._left))  # each takes a byte at least
        return [self.count() for _ in range(number)]

    def take(self, length: int) -> bytes:
        """Read a run of bytes.

        Args:
            length: How many.

        Returns:
            The bytes.

        Raises:
            WireError: If there are fewer.
        """
        if length > len(self._left):
            raise WireError(f"message is truncated: {length} bytes are announced, {len(self._left)} are left")
        taken, self._left = bytes(self._left[:length]), self._left[length:]
        return taken

    def rest(self) -> bytes:
        """Read what is left.

        Returns:
            The bytes.
        """
        return self.take(len(self._left))

    def __bool__(self) -> bool:
        return bool(len(self._left))
