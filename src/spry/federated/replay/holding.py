"""Which clients hold the weights that nobody trains, such as a head in closed form, so that they are sent once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from spry.core.params import Params, digest
from spry.wire.codec import DIGEST_BYTES
from spry.wire.messages import Answer

CLIENTS, OF = "clients", "of"
"""Names in the slot: who holds the weights, and the digest of these."""


@dataclass
class Holding:
    """The clients that were sent the weights as they are, and have answered whenever they were asked since."""

    clients: set[int]

    @classmethod
    def read(cls, slot: Mapping[str, Tensor], weights: Params) -> Holding:
        """Read what ``write`` returned, or the empty slot of the beginning; of other weights nobody holds any."""
        if not slot or bytes(slot[OF].tolist()) != digest(weights, DIGEST_BYTES):
            return cls(clients=set())
        return cls(clients=set(slot[CLIENTS].tolist()))

    def watch(self, asked: Iterable[int], answers: Iterable[Answer]) -> Iterator[Answer]:
        """Note who answers of those asked; whoever does not may have lost the weights, and is sent them again."""
        self.clients.difference_update(asked)
        for order, reply in answers:
            self.clients.add(order.client)
            yield Answer(order, reply)

    def write(self, weights: Params) -> dict[str, Tensor]:
        """Write this as a slot of the server's memory."""
        of = torch.tensor(list(digest(weights, DIGEST_BYTES)), dtype=torch.uint8)
        return {CLIENTS: torch.tensor(sorted(self.clients), dtype=torch.int64), OF: of}
