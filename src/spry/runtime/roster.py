"""Which node plays which client: any node any client where data is dealt, each node its own where data lies with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from spry.core.errors import TrainingError, WireError
from spry.data.federation import Federation
from spry.runtime.courier import Courier, Delivery, Letter
from spry.runtime.remote import Refused, read_answer
from spry.runtime.report import Present, RollCall, encode_message

LOOK_SECONDS = 0.2


def wait_for_nodes(courier: Courier, number: int, seconds: float) -> Sequence[int]:
    """Wait until so many nodes are there.

    Raises:
        TrainingError: If they do not come within so many seconds.
    """
    ends = time.monotonic() + seconds
    while len(found := courier.addresses()) < number:
        if time.monotonic() > ends:
            raise TrainingError(
                f"{len(found)} of {number} nodes came within {seconds:g} s. Start the others, ask for fewer "
                "(runtime.nodes), or wait longer (runtime.wait)."
            )
        time.sleep(LOOK_SECONDS)
    return found


@dataclass(frozen=True)
class DealtNodes:
    """Nodes that can each play any client, as all of them have all data: client c is played by node c mod N."""

    nodes: Sequence[int]

    def address(self, client: int) -> int:
        return self.nodes[client % len(self.nodes)]


@dataclass
class OwnNodes:
    """Nodes with data of their own: each is one client, and tells how many examples it trains on.

    Args:
        seconds: How long a node may take to tell.
        refused: Nodes that cannot take part, and why; they are not asked again.
    """

    courier: Courier
    seconds: float
    refused: dict[int, str] = field(default_factory=dict)
    _nodes: dict[int, int] = field(default_factory=dict, init=False)
    _sizes: dict[int, int] = field(default_factory=dict, init=False)

    def address(self, client: int) -> int:
        return self._nodes[client]

    def sizes(self) -> Mapping[int, int]:
        """How many examples each client has; nodes that have come meanwhile are asked first."""
        known = {*self._nodes.values(), *self.refused}
        self._enrol([node for node in self.courier.addresses() if node not in known])
        return self._sizes

    def _enrol(self, nodes: Sequence[int]) -> None:
        if not nodes:
            return
        question = encode_message(RollCall())
        letters = [Letter(node, place, question) for place, node in enumerate(nodes)]
        came = {found.client: found for found in self.courier.exchange(letters, self.seconds)}
        answers: list[tuple[int, Present]] = []
        for place, node in enumerate(nodes):
            silent = Delivery(place, b"", f"no answer within {self.seconds:g} s")
            try:
                answers.append((node, read_answer(came.get(place, silent), Present)))
            except (Refused, WireError) as error:
                self.refused[node] = str(error)
        for node, said in answers:
            self._take(node, said)

    def _take(self, node: int, said: Present) -> None:
        if said.client in self._nodes:
            self.refused[node] = f"it says that it is client {said.client}, and so did another node before it"
            return
        self._nodes[said.client], self._sizes[said.client] = node, said.examples


@dataclass(frozen=True, kw_only=True, eq=False)
class Elsewhere(Federation):
    """Clients whose data lies elsewhere: the server knows how many examples each has, and nothing more."""

    sizes: Callable[[], Mapping[int, int]]

    def trainable(self) -> list[int]:
        return sorted(client for client, number in self.sizes().items() if number)

    def examples(self, client: int) -> int:
        return self.sizes()[client]

    def refuse(self, *_: object) -> Iterable[object]:
        raise AssertionError("the server does not have the clients' data")

    batches = training_once = held_out = refuse  # type: ignore[assignment]
