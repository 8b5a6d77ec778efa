"""Lets a run in one process reach Flower's grid in another: the run asks over a socket, the server app carries out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from spry.core.errors import TrainingError
from spry.runtime.courier import Delivery, Letter
from spry.runtime.pipe import Pipe, connected

if TYPE_CHECKING:
    from spry.runtime.flower.apps import GridCourier

SOCKET = "SPRY_FLOWER_SOCKET"
"""The variable of the environment that says where the run listens."""
SLACK_SECONDS = 30.0
"""How much longer than its answers the server app itself may be silent."""


class GridRequest(msgspec.Struct):
    """What the run wants: letters carried, or, without any, to know who is there."""

    number: int
    letters: list[Letter]
    seconds: float


class GridAnswer(msgspec.Struct):
    """What came of a question: a delivery, or, in the end, nothing but who is there."""

    number: int
    delivery: Delivery | None = None
    addresses: list[int] = []


class BridgeCourier:
    """The run's end; ``ended`` says why the other end is gone, if it is."""

    def __init__(self, pipe: Pipe, ended: Callable[[], str]) -> None:
        self._pipe, self._ended, self._number = pipe, ended, 0

    def addresses(self) -> Sequence[int]:
        return [told for told in self._ask([], SLACK_SECONDS) if isinstance(told, int)]

    def exchange(self, letters: Sequence[Letter], seconds: float) -> Iterator[Delivery]:
        return (told for told in self._ask([*letters], seconds) if isinstance(told, Delivery))

    def _ask(self, letters: list[Letter], seconds: float) -> Iterator[Delivery | int]:
        self._number += 1
        number = self._number
        try:
            self._pipe.send(GridRequest(number, letters, seconds))
            while (told := self._next(seconds)).delivery is not None or told.number != number:
                if told.delivery is not None and told.number == number:
                    yield told.delivery  # others are of a question whose answers nobody waits for any more
        except (TimeoutError, ConnectionError) as error:
            raise TrainingError(self._ended()) from error
        yield from told.addresses

    def _next(self, seconds: float) -> GridAnswer:
        told = self._pipe.receive(GridAnswer, seconds + SLACK_SECONDS)
        if told is None:
            raise TrainingError(self._ended())
        return told


def serve_bridge(courier: GridCourier, _: Mapping[str, Any]) -> None:
    """Flower's end: carry out what the run asks, until it closes; that may be while clients still answer."""
    with connected(Path(os.environ[SOCKET])) as pipe, suppress(ConnectionError):
        while (asked := pipe.receive(GridRequest)) is not None:
            if not asked.letters:
                pipe.send(GridAnswer(asked.number, addresses=[*courier.addresses()]))
                continue
            for delivery in courier.exchange(asked.letters, asked.seconds, pipe.ready):
                pipe.send(GridAnswer(asked.number, delivery))
            pipe.send(GridAnswer(asked.number))
