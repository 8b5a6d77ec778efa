"""Uniting replies so that a few wrong ones move the server little: clipping, the trimmed mean, the median."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from spry.core.errors import ConfigError
from spry.federated.aggregate import Aggregate, ClientMean
from spry.federated.transforms import Clip, transform_payload, transform_slopes
from spry.wire.messages import Gradient, Order, Reply, Slopes, Weights

UnitedBy = Literal["mean", "trimmed-mean", "median"]


class OwnersMiddle(Aggregate):
    """The mean of the middle of a weight's owners, element by element.

    Each owner counts alike, since how many examples it has is what it says itself. All replies are kept, so that memory
    grows with the number of clients.

    Args:
        trim: Share of the owners, in [0, 0.5), that is left out at each end, rounded down; None leaves out all but the
            one or two in the middle, which is the median.

    Source:
        Yin et al. 2018 (arXiv 1803.01498).
    """

    def __init__(self, trim: float | None) -> None:
        super().__init__()
        self._trim = trim
        self._values: dict[str, list[Tensor]] = {}

    def _add(self, name: str, value: Tensor, examples: int) -> None:
        self._values.setdefault(name, []).append(value)

    def _united(self, name: str) -> Tensor | None:
        values = self._values.get(name)
        if values is None:
            return None
        cut = left_out(len(values), self._trim)
        return torch.stack(values).double().sort(dim=0).values[cut : len(values) - cut].mean(dim=0)


def left_out(owners: int, trim: float | None) -> int:
    """How many of a weight's owners are left out at each end."""
    return (owners - 1) // 2 if trim is None else int(trim * owners + 1e-9)


@dataclass(frozen=True, kw_only=True)
class Aggregation:
    """How the server unites replies.

    Args:
        trim: Of the trimmed mean, the share of owners left out at each end, in (0, 0.5).
        clip: Norm > 0 to which the server shortens each reply, whatever its client did: the update, or the slopes of
            each step and what is sent beside them; None leaves them as they are.
    """

    rule: UnitedBy = "mean"
    trim: float = 0.2
    clip: float | None = None

    def begin(self) -> Aggregate:
        if self.rule == "mean":
            return ClientMean()
        return OwnersMiddle(self.trim if self.rule == "trimmed-mean" else None)

    def shortened(self, order: Order, reply: Reply, beside: type[Weights | Gradient]) -> Reply:
        """Shorten a reply; ``beside`` is what is sent exactly beside slopes."""
        if self.clip is None:
            return reply
        clips, payload = (Clip(self.clip),), reply.payload
        if isinstance(payload, Slopes):
            payload = transform_slopes(clips, payload, beside, order)
        else:
            payload = transform_payload(clips, payload, order)
        return replace(reply, payload=payload)

    def check(self, orders: Iterable[Order]) -> None:
        """Refuse, with a ConfigError, a round in which some weight has too few owners to leave any out."""
        if self.rule == "mean":
            return
        orders = list(orders)
        owners = Counter(name for order in orders for name in order.trained)
        name, fewest = min(owners.items(), key=lambda one: one[1])
        if left_out(fewest, self.trim if self.rule == "trimmed-mean" else None):
            return
        wanted = 3 if self.rule == "median" else next(n for n in range(1, 1 << 20) if left_out(n, self.trim))
        raise ConfigError(
            f"server.aggregate is {self.rule!r}, which needs at least {wanted} owners of each weight; {name} has "
            f"{fewest} among {len(orders)} clients, whose replies nothing can be compared with. Ask more clients "
            "(schedule.clients_per_round), deal everything to everybody (method.split = 'everything'), or set "
            "server.aggregate = 'mean', with server.clip to bound what one reply moves"
        )


PLAIN_MEAN = Aggregation()
