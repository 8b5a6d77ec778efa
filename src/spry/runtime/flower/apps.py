"""Flower's two apps around Spry's bytes. Neither loads torch: a client's process may pass them on to a warm one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import Empty, Queue
from threading import Event, Thread
from time import monotonic
from typing import Any

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from spry.runtime.courier import Delivery, Letter

ONE_RECORD = "spry"
"""The one record of a message: the client's number, and bytes."""
POLL_SECONDS, PULLS_PER_SECOND = 0.1, 50.0
"""How often Flower is asked for an answer, and for all of them together."""
CLOCKS_APART_SECONDS = 60.0
"""How much a message outlives its round. Flower takes its age by the clocks of server and node, which differ."""
GONE, TOO_LARGE = "its node has left", "Flower did not take the message: it may be too large"

NodeHandler = Callable[[Mapping[str, Any], int, bytes, bytes | None], tuple[bytes, bytes | None]]
"""``(node's configuration, client, message, what it knows) -> (answer, what it knows then)``."""


class GridCourier:
    """Carries letters over a grid of Flower's, one message each."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    def addresses(self) -> Sequence[int]:
        return sorted(self._grid.get_node_ids())

    def exchange(
        self, letters: Sequence[Letter], seconds: float, enough: Callable[[], bool] = lambda: False
    ) -> Iterator[Delivery]:
        """See ``Courier``; once nobody waits any more (``enough``), nothing more is yielded."""
        ends = monotonic() + seconds
        messages = [_sent(letter, seconds + CLOCKS_APART_SECONDS) for letter in letters]
        pushed = [*self._grid.push_messages(messages)]
        for letter, name in zip(letters, pushed or [None] * len(letters), strict=True):
            if not name:
                yield Delivery(letter.client, b"", GONE if pushed else TOO_LARGE)
        waiting = {name: letter.client for name, letter in zip(pushed, letters, strict=False) if name}
        with _pulling(self._grid, list(waiting)) as answers:
            while waiting and not enough():
                left = ends - monotonic()
                try:
                    name, answer = answers.get(timeout=max(0.0, min(POLL_SECONDS, left)))
                except Empty:
                    if left <= 0:
                        break
                    continue
                yield _received(answer, waiting.pop(name))
        if not enough():
            yield from (
                Delivery(client, b"", f"no answer within {seconds:.3g} s") for client in waiting.values()
            )


@contextmanager
def _pulling(grid: Grid, names: Sequence[str]) -> Generator[Queue[tuple[str, Message | Exception]]]:
    """Pull the answers to messages, each in a thread of its own.

    If a node's network is cut while it sends an answer, Flower's call for it takes minutes. It must keep neither the
    others' answers nor the end of the round.
    """
    answers, over = Queue[tuple[str, Message | Exception]](), Event()
    pause = max(POLL_SECONDS, len(names) / PULLS_PER_SECOND)

    def pull(name: str) -> None:
        try:
            while not over.is_set():
                for answer in grid.pull_messages([name]):
                    answers.put((name, answer))
                    return
                over.wait(pause)
        except Exception as error:
            answers.put((name, error))

    for name in names:
        Thread(target=pull, args=(name,), daemon=True).start()
    try:
        yield answers
    finally:
        over.set()


def _sent(letter: Letter, seconds: float) -> Message:
    record = ConfigRecord({"client": letter.client, "data": letter.data})
    return Message(RecordDict({ONE_RECORD: record}), letter.address, "train", ttl=seconds)


def _received(message: Message | Exception, client: int) -> Delivery:
    if isinstance(message, Exception):
        raise message
    if message.has_error():
        told = message.error.reason or f"Flower's error {message.error.code}"
        return Delivery(client, b"", " ".join(told.removeprefix("Error: ").split()))
    record = message.content.config_records.get(ONE_RECORD, {})
    data = record.get("data")
    if not isinstance(data, bytes):
        return Delivery(client, b"", "its answer has no bytes of Spry's")
    return Delivery(client, data)


def make_client_app(handle: NodeHandler) -> ClientApp:
    """Make the app that answers messages on a node; what each client knows stays in the node's context."""
    app = ClientApp()

    @app.train()
    def answer(message: Message, context: Context) -> Message:  # pyright: ignore[reportUnusedFunction]
        record: Any = message.content.config_records[ONE_RECORD]
        client, place = record["client"], f"{ONE_RECORD}-{record['client']}"
        kept: Any = context.state.config_records.get(place, {})
        data, known = handle(context.node_config, client, record["data"], kept.get("known"))
        if known is not None:
            context.state[place] = ConfigRecord({"known": known})
        return Message(
            RecordDict({ONE_RECORD: ConfigRecord({"client": client, "data": data})}), reply_to=message
        )

    return app


def make_server_app(serve: Callable[[GridCourier, Mapping[str, Any]], None]) -> ServerApp:
    """Make the app that runs a federation: ``(who carries letters, the run's configuration) -> None``."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:  # pyright: ignore[reportUnusedFunction]
        serve(GridCourier(grid), context.run_config)

    return app
