"""The two halves of a Flower app for Spry, as the folder that ``spry flower init`` writes names them.

What a client's process needs to pass a message on is imported at once, and all else when it is needed: a process that
Flower starts for one message should not load a model library only to talk to a warm client.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spry.experiment.warm import Answering, Passed, make_answering, pass_on
from spry.runtime.flower.apps import GridCourier, make_client_app, make_server_app
from spry.runtime.flower.bridge import serve_bridge

if TYPE_CHECKING:
    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp

    from spry.experiment.run import Started
    from spry.runtime.records import Round

OUT, METRICS = "out", "metrics"
"""Entries of the app's configuration: the run folder, and the port of metrics for Prometheus, 0 for none."""


def client_app(config: Path) -> ClientApp:
    """Make the app of a node: it answers here, or passes messages on to the warm client that ``socket`` names."""

    def handle(
        facts: Mapping[str, Any], client: int, message: bytes, known: bytes | None
    ) -> tuple[bytes, bytes | None]:
        passed = Passed(config.read_text(encoding="utf-8"), {**facts}, client, message, known)
        warm = facts.get("socket")
        answered = _answer_here()(passed) if warm is None else pass_on(Path(str(warm)), passed)
        return answered.data, answered.known

    return make_client_app(handle)


def server_app(config: Path) -> ServerApp:
    """Make the app of the server: a whole run into the folder that ``out`` names; one that was stopped goes on.

    ``metrics`` is a port of the server's machine for Prometheus.
    """

    def serve(courier: GridCourier, settings: Mapping[str, Any]) -> None:
        from spry.experiment.config import read_record
        from spry.experiment.exporter import exported
        from spry.experiment.run import run

        folder = Path(str(settings.get(OUT, "run")))
        with exported(settings.get(METRICS) or None) as exporter:
            for event in run(read_record(config), folder, resume=True, courier=courier):
                exporter.take(event)
                sys.stdout.write(f"{_line(event)}\n")
                sys.stdout.flush()
        sys.stdout.write(f"run folder: {folder.resolve()}\n")

    return make_server_app(serve)


def bridge_app() -> ServerApp:
    """Make the app of a server that does what a run in another process asks."""
    return make_server_app(serve_bridge)


@cache
def _answer_here() -> Answering:
    return make_answering()


def _line(event: Started | Round) -> str:
    """One line of the server's log."""
    from spry.experiment.run import Started

    if isinstance(event, Started):
        return " ".join([f"{event.clients} clients.", *event.notes])
    score = "" if event.score is None else f", {event.score_name} {event.score:.4f}"
    failed = "".join(f"; client {one.client}: {one.failed}" for one in event.clients if one.failed)
    return f"round {event.number + 1}: loss {event.loss:.4f}{score}{failed}"
