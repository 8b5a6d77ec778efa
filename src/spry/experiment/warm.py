"""A client that stays warm: one process holds model and data, where an engine starts a process for every message."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from spry.core.errors import TrainingError, WireError
from spry.runtime.pipe import Pipe, connected, listening

if TYPE_CHECKING:
    from spry.runtime.node import ClientNode

MOST_NODES = 4
"""Nodes that are held at a time, each with its model."""
SILENT_SECONDS = 30.0
"""How long whoever connects may say nothing, while others wait."""


class Passed(msgspec.Struct):
    """A message that a short-lived process passes on, with all that it takes to answer it."""

    config: str
    facts: dict[str, str | int | float | bool]
    client: int
    message: bytes
    known: bytes | None


class Answered(msgspec.Struct):
    data: bytes
    known: bytes | None


Answering = Callable[[Passed], Answered]


def pass_on(place: Path, passed: Passed) -> Answered:
    """Let the warm client at a socket answer.

    Raises:
        TrainingError: If none is there, or it ends meanwhile.
    """
    try:
        with connected(place) as pipe:
            pipe.send(passed)
            answered = pipe.receive(Answered)
    except OSError as error:
        raise TrainingError(
            f"no warm client listens at {place} ({error.strerror}). Start it with spry client --serve {place}, or "
            "leave socket out of the node's configuration"
        ) from error
    if answered is None:
        raise TrainingError(f"the warm client at {place} ended before it answered; it may lack memory")
    return answered


def keep_warm(place: Path, answer: Answering, *, ready: Callable[[], None] = lambda: None) -> None:
    """Answering what comes to a socket, one message after the other, until the process is stopped.

    Args:
        ready: Called once the socket is there.
    """
    with listening(place) as server:
        ready()
        while True:
            connection, _ = server.accept()
            with connection:
                _answer_one(connection, answer)


def _answer_one(connection: socket.socket, answer: Answering) -> None:
    pipe = Pipe(connection)
    try:
        passed = pipe.receive(Passed, SILENT_SECONDS)
        if passed is not None:
            pipe.send(answer(passed))
    except (OSError, WireError):  # whoever asked is gone, or talks of something else; the next one may not
        return


def make_answering() -> Answering:
    """Make what answers messages here: a node is loaded once, and not before a message takes its model or data."""
    from spry.core.errors import SpryError
    from spry.experiment.config import parse_record
    from spry.experiment.node import build_node
    from spry.experiment.private import secure_aggregation
    from spry.runtime.node_memory import answer_from
    from spry.runtime.report import refuse
    from spry.runtime.secure_node import PHASES, MaskedClient
    from spry.wire.frame import read_kind

    @lru_cache(maxsize=MOST_NODES)
    def node(config: str, facts: tuple[tuple[str, str | int | float | bool], ...]) -> ClientNode:
        return build_node(parse_record(config), dict(facts))

    def without_model(masked: MaskedClient, passed: Passed) -> Answered:
        return Answered(
            *answer_from(passed.known, lambda memory: masked.answer(passed.client, passed.message, memory))
        )

    def answer(passed: Passed) -> Answered:
        try:
            config = parse_record(passed.config)
            secure = secure_aggregation(config)
            if secure is not None and read_kind(passed.message) in PHASES:
                return without_model(MaskedClient(secure), passed)
            own = config.runtime.data == "nodes"
            there = node(passed.config, tuple(sorted(passed.facts.items())) if own else ())
            return Answered(*there.answer(passed.client, passed.message, passed.known))
        except SpryError as error:
            return Answered(refuse(str(error)), passed.known)

    return answer
