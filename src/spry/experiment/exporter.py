"""Metrics of a run for Prometheus, at ``http://127.0.0.1:PORT/metrics`` as long as the run goes on."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from spry.core.errors import ConfigError
from spry.experiment.run import Started
from spry.runtime.records import Round

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

HOST = "127.0.0.1"
"""Metrics say what is trained on; whoever wants them on another machine puts a proxy before them."""


class EventSink(Protocol):
    def take(self, event: Started | Round) -> None: ...


class _Nobody:
    def take(self, event: Started | Round) -> None:
        pass


class Exporter:
    """What a run's events make of its metrics.

    Args:
        registry: Where Prometheus' client library keeps them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        from prometheus_client import Counter, Gauge, Info

        def gauge(name: str, about: str, *labels: str) -> Gauge:
            return Gauge(f"spry_{name}", about, labels, registry=registry)

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(f"spry_{name}", about, labels, registry=registry)

        self.run = Info("spry_run", "What is trained", registry=registry)
        self.rounds = gauge("rounds", "Rounds of the run")
        self.rounds_done = gauge("rounds_done", "Rounds that are finished")
        self.last_round = gauge("last_round_timestamp_seconds", "When the last round was finished")
        self.loss = gauge("loss", "Training loss of the last round")
        self.score = gauge("score", "Score of the last evaluation", "part", "score")
        self.seconds = gauge("round_seconds", "Duration of the last round, evaluation left out")
        self.peak = gauge("peak_bytes_above_model", "Highest memory of a client above model and data")
        self.replies = counter("replies", "Replies of clients, counted or dropped", "outcome")
        self.sent = counter("sent_bytes", "Bytes that clients sent (up) and were sent (down)", "direction")
        self.operations = counter("operations", "Floating-point operations of clients")

    def take(self, event: Started | Round) -> None:
        """Follow an event of the run."""
        if isinstance(event, Started):
            self._begin(event)
        else:
            self._follow(event)

    def _begin(self, started: Started) -> None:
        config = started.config
        self.run.info({
            "method": config.method.name,
            "model": config.model.name,
            "data": config.data.name,
            "seed": str(config.seed),
        })
        self.rounds.set(config.schedule.rounds)
        self.rounds_done.set(started.resumed_at)

    def _follow(self, round: Round) -> None:
        self.rounds_done.set(round.number + 1)
        self.last_round.set(time.time())
        self.loss.set(round.loss)
        self.seconds.set(round.seconds)
        self.peak.set(round.peak_bytes)
        for part, value in round.scores.items():
            self.score.labels(part, round.score_name).set(value)
        self.replies.labels("counted").inc(len(round.survivors))
        self.replies.labels("dropped").inc(len(round.clients) - len(round.survivors))
        self.sent.labels("up").inc(sum(client.bytes_up for client in round.clients))
        self.sent.labels("down").inc(sum(client.bytes_down for client in round.clients))
        self.operations.inc(sum(client.operations or 0 for client in round.clients))


@contextmanager
def exported(port: int | None) -> Generator[EventSink]:
    """Serve metrics on a port of this machine while the context is open; on none if it is None.

    Yields:
        What is told the run's events.

    Raises:
        ConfigError: If the client library is not installed, or the port is taken.
    """
    if port is None:
        yield _Nobody()
        return
    prometheus = _library()
    registry = prometheus.CollectorRegistry()
    exporter = Exporter(registry)
    try:
        server, thread = prometheus.start_http_server(port, addr=HOST, registry=registry)
    except OSError as error:
        raise ConfigError(f"metrics on port {port}: {error.strerror}. Choose another port") from error
    try:
        yield exporter
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _library() -> Any:
    try:
        import prometheus_client
    except ImportError as error:
        raise ConfigError("metrics need prometheus_client: pip install 'spry-fl[metrics]'") from error
    return prometheus_client
