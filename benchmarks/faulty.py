"""Clients that fail: each runs in a process of its own, and some are killed, hang, or send what is wrong."""

from __future__ import annotations

import os
import pickle
import signal
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any, NoReturn

import torch
from torch import Tensor

from spry.core.keys import Key
from spry.runtime.executor import Completed, Failure
from spry.wire.codec import decode_reply, encode_reply
from spry.wire.messages import Gradient, Order, Reply, Slopes, Weights

FORK = get_context("fork")
Exact = frozenset[str] | None
Fault = Callable[[bytes, Order, Exact], list[bytes]]
"""What a client that has trained sends instead of its reply: some messages, or none."""


def _killed(data: bytes, order: Order, exact: Exact) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("killed")


def _hanging(data: bytes, order: Order, exact: Exact) -> NoReturn:
    while True:
        signal.pause()


def _garbage(data: bytes, order: Order, exact: Exact) -> list[bytes]:
    return [data[:6] + Key(order.client).generator("garbage").bytes(len(data))]


def _truncated(data: bytes, order: Order, exact: Exact) -> list[bytes]:
    return [data[: len(data) // 2]]


def _not_finite(data: bytes, order: Order, exact: Exact) -> list[bytes]:
    return [_changed(data, order, exact, lambda value: value * float("nan"))]


def _of_another_shape(data: bytes, order: Order, exact: Exact) -> list[bytes]:
    return [_changed(data, order, exact, lambda value: torch.cat([value, value]))]


def _stale(data: bytes, order: Order, exact: Exact) -> list[bytes]:
    reply = decode_reply(data, order, exact)
    return [encode_reply(replace(reply, round=order.round - 1 if order.round else 1), order)]


def _twice(data: bytes, order: Order, exact: Exact) -> list[bytes]:
    return [data, data]


def _never(data: bytes, order: Order, exact: Exact) -> list[bytes]:
    return []


FAULTS: Mapping[str, Fault] = {
    "killed": _killed,
    "hanging": _hanging,
    "garbage": _garbage,
    "truncated": _truncated,
    "NaN": _not_finite,
    "wrong shapes": _of_another_shape,
    "a stale round": _stale,
    "a reply twice": _twice,
    "no reply": _never,
}


def _changed(data: bytes, order: Order, exact: Exact, change: Callable[[Tensor], Tensor]) -> bytes:
    """Write the reply with other values."""
    reply: Reply = decode_reply(data, order, exact)
    match reply.payload:
        case Weights(values) | Gradient(values):
            payload = type(reply.payload)({name: change(value) for name, value in values.items()})
        case Slopes(slopes, beside):
            payload = Slopes(change(slopes), beside)
    return encode_reply(replace(reply, payload=payload), order)


@dataclass(frozen=True, kw_only=True)
class Faulty:
    """Runs every client of a round at once, each in a fork of this process.

    Args:
        faults: ``order -> name``: which of ``FAULTS`` a client has; None if it is well.
        slopes_exact: The algorithm's.
    """

    faults: Callable[[Order], str | None]
    slopes_exact: Exact = None

    def run(
        self, orders: Sequence[Order], train: Callable[[Order], Completed], deadline: float | None = None
    ) -> Generator[Completed | Failure]:
        """Carry out the orders; whoever has not answered at the deadline is killed."""
        ends = None if deadline is None else time.monotonic() + deadline
        running = {}
        try:
            for order in orders:
                process, connection = self._begin(order, train)
                running[connection] = process, order
            while running:
                left = None if ends is None else max(ends - time.monotonic(), 0)
                ready = wait(list(running), left)
                if not ready:
                    return
                for connection in ready:
                    yield from _heard(connection, running)
        finally:
            for connection, (process, _) in running.items():
                _end(connection, process)

    def _begin(
        self, order: Order, train: Callable[[Order], Completed]
    ) -> tuple[ForkProcess, Connection[Any, Any]]:
        ours, theirs = FORK.Pipe(duplex=False)
        process = FORK.Process(target=self._client, args=(theirs, order, train), daemon=True)
        process.start()
        theirs.close()
        return process, ours

    def _client(
        self, connection: Connection[Any, Any], order: Order, train: Callable[[Order], Completed]
    ) -> None:
        torch.set_num_threads(1)
        done, fault = train(order), self.faults(order)
        sent = [done.data] if fault is None else FAULTS[fault](done.data, order, self.slopes_exact)
        for data in sent:
            connection.send_bytes(pickle.dumps((data, done.record)))


def _heard(connection: Any, running: dict[Any, tuple[ForkProcess, Order]]) -> Generator[Completed | Failure]:
    """Read one message of a client, or learn that it has ended."""
    process, order = running[connection]
    try:
        data, record = pickle.loads(connection.recv_bytes())  # our own child wrote it
    except EOFError:
        del running[connection]
        process.join()
        code = process.exitcode or 0
        _end(connection, process)
        if code:
            how = signal.Signals(-code).name if code < 0 else f"status {code}"
            yield Failure(order, f"its process ended ({how})")
        return
    yield Completed(order, data, record)


def _end(connection: Any, process: ForkProcess) -> None:
    connection.close()
    process.kill()
    process.join()
    process.close()
