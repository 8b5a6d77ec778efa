"""The data of a whole run: all clients, how their batches are made, and what the server evaluates on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from spry.core.keys import Key
from spry.data.batches import EvaluationBatches, TrainingBatches
from spry.data.clients import Client
from spry.data.encoded import Batch
from spry.data.facts import Facts


@dataclass(frozen=True, kw_only=True, eq=False)
class Federation:
    """Clients by number, each seen through the same settings of local training.

    Args:
        test: Batches of the official or held-out test part; empty without one.
        validation: Batches of the part to choose by; empty without one.
        steps: Batches a round, >= 1, in place of ``epochs``.
        facts: What is known of the data, where it came as text.
    """

    clients: Sequence[Client]
    test: Iterable[Batch]
    batch_size: int
    validation: Iterable[Batch] = ()
    epochs: int = 1
    steps: int | None = None
    facts: Facts | None = None

    def trainable(self) -> list[int]:
        return [client.id for client in self.clients if len(client.train)]

    def examples(self, client: int) -> int:
        return len(self.clients[client].train)

    def batches(self, client: int, round: int, key: Key) -> TrainingBatches:
        """A client's batches of one round, shuffled anew in each; ``key`` is the run's."""
        return self.clients[client].batches(
            key, round, batch_size=self.batch_size, epochs=self.epochs, steps=self.steps
        )

    def training_once(self, client: int) -> EvaluationBatches:
        """A client's training examples, each once."""
        return self.clients[client].training_once(self.batch_size)

    def held_out(self, client: int) -> EvaluationBatches:
        return self.clients[client].held_out_batches()
