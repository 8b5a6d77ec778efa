"""The mailbox of a run's processes: a store of ``torch.distributed``, which the leader or torchrun keeps in memory.

Values are pickled, as torch.distributed's own collectives pickle objects. So that nobody else on the machine can slip
one in, they are sealed with a secret that only processes which the leader started know.
"""

from __future__ import annotations

import hmac
import pickle
import socket
from datetime import timedelta
from typing import Any, Protocol

import torch.distributed

from spry.core.errors import WorkerError

LOOPBACK = "127.0.0.1"
ANSWER_SECONDS = timedelta(seconds=60)
"""How long the store itself may take for an answer."""
_SEAL_BYTES = 32
_distributed: Any = torch.distributed  # which types its stores as private


class Store(Protocol):
    """A store of torch.distributed, as far as it is used."""

    def set(self, key: str, value: bytes) -> None: ...

    def get(self, key: str) -> bytes: ...

    def add(self, key: str, amount: int) -> int: ...

    def check(self, keys: list[str]) -> bool: ...

    def delete_key(self, key: str) -> bool: ...


class Mailbox:
    """Values by key, and counters that several processes may raise at once.

    Args:
        secret: Seals values; empty under torchrun, whose network is trusted as torch.distributed trusts it.
    """

    def __init__(self, store: Store, secret: bytes) -> None:
        self._store, self._secret = store, secret

    def put(self, key: str, value: object) -> None:
        data = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
        self._store.set(key, self._seal(data) + data)

    def read(self, key: str) -> Any:
        """Read a value that is known to be there.

        Raises:
            WorkerError: If its seal is broken.
        """
        message = self._store.get(key)
        seal, data = message[:_SEAL_BYTES], message[_SEAL_BYTES:]
        if not hmac.compare_digest(seal, self._seal(data)):
            raise WorkerError(
                "the store of this run's processes was written by somebody else. Start the run anew."
            )
        return pickle.loads(data)

    def take(self, key: str) -> Any:
        value = self.read(key)
        self._store.delete_key(key)
        return value

    def forget(self, key: str) -> None:
        self._store.delete_key(key)

    def has(self, key: str) -> bool:
        return self._store.check([key])

    def count(self, counter: str, by: int = 0) -> int:
        """Raise a counter, which begins at 0, and read it."""
        return self._store.add(counter, by)

    def _seal(self, data: bytes) -> bytes:
        return hmac.digest(self._secret, data, "sha256")


def open_here() -> tuple[Store, int]:
    """Open a store on this machine that other machines cannot reach, and its port."""
    listening = socket.create_server((LOOPBACK, 0))
    port = listening.getsockname()[1]
    store = _distributed.TCPStore(
        LOOPBACK,
        port,
        None,
        True,
        ANSWER_SECONDS,
        wait_for_workers=False,
        master_listen_fd=listening.detach(),
    )
    return store, port


def connect_here(port: int) -> Store:
    return _distributed.TCPStore(LOOPBACK, port, None, False, ANSWER_SECONDS, wait_for_workers=False)
