"""One run in a few dimensions: exact gradients or slopes, steps by the clients or by the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from few_problem import Subspace, evaluate, gradients
from few_setting import Setting
from torch import Tensor

from spry.core.keys import Key
from spry.optim.named import optimizer
from spry.optim.transform import OptState, Transform

EVERY = "query,key,value,out,up,down"
Asked = Sequence[tuple[int, int, list[list[int]]]]
"""The clients of a round: number, examples, and the places of each batch."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run.

    Args:
        basis: What the columns are: weights, random, words, public, labels.
        blocks: Numbers of blocks, from 0; ``maps`` are short names.
        slopes: K, slopes a step; 0 takes exact gradients.
        steps: Who steps: ``client`` (four local steps, weights averaged) or ``server`` (one step a round).
        optimizer: Whoever steps has it; its step size falls linearly to 0.
        split: The maps are dealt like cards, and each client trains one in ``split`` of them.
        pooled: Whether a client measures all its slopes on its four batches together; then K is for all of them.
        directions: gaussian, or orthogonal: at right angles to each other, so that K = d gives the gradient itself.
    """

    basis: str
    blocks: str = "5"
    maps: str = EVERY
    rank: int = 4
    slopes: int = 0
    steps: str = "server"
    optimizer: str = "adam"
    lr: float = 1e-2
    rounds: int = 32
    seed: int = 0
    split: int = 1
    pooled: bool = False
    directions: str = "gaussian"


@dataclass(kw_only=True)
class Training:
    """The state of a run: the trained numbers ``at``, shape (d,), and the server's moments."""

    setting: Setting
    subspace: Subspace
    trial: Trial

    def __post_init__(self) -> None:
        self.at = torch.zeros(self.subspace.size())
        self.moments: OptState = self.optimizer.init({"r": self.at})

    @cached_property
    def optimizer(self) -> Transform:
        return optimizer(self.trial.optimizer, lr=1.0)

    def run(self) -> dict[str, Any]:
        """Train; accuracy and loss on the test part and on held-out examples, at the start, half and end."""
        rounds, curve = self.trial.rounds, []
        for number in range(rounds):
            if number == 0 or (number == rounds // 2 and rounds > 16):
                curve.append([number, *self.scores()])
            step = self._server if self.trial.steps == "server" else self._clients
            step(number, self.trial.lr * (1 - number / rounds))
            if not torch.isfinite(self.at).all():
                return {"curve": curve, "diverged": number + 1}
        curve.append([rounds, *self.scores()])
        return {"curve": curve, "length": float(self.at.norm())}

    def scores(self) -> list[float]:
        """Accuracy and loss on the test part, and on held-out examples of clients."""
        setting, low = self.setting, self.subspace.lowest
        if not self.at.any() and setting.start:
            return setting.start
        test = evaluate(setting.model, setting.test_states(low), setting.test[1], self.subspace, self.at)
        states, labels = setting.states(setting.held, low), setting.labels(setting.held)
        found = [*test, *evaluate(setting.model, states, labels, self.subspace, self.at)]
        if not self.at.any():
            setting.start = found
        return found

    def _server(self, number: int, rate: float) -> None:
        """Each batch measures at the server's weights; the mean over clients is weighted by examples."""
        asked = self.setting.round(number)
        if self.trial.pooled:
            asked = [
                (client, examples, [[place for batch in own for place in batch]])
                for client, examples, own in asked
            ]
        steps = len(asked[0][2])
        batches = [batch for _, _, own in asked for batch in own]
        owned = self._owned(len(asked), number).repeat_interleave(steps, 0)
        found = self._estimates(batches, self.at.expand(len(batches), -1), owned, number, 0)
        share = (
            owned
            * torch.tensor([examples / steps for _, examples, _ in asked for _ in range(steps)])[:, None]
        )
        mean = (share * found).sum(0) / share.sum(0).clamp(min=1e-12)
        updates, self.moments = self.optimizer.update({"r": mean}, self.moments, {"r": self.at})
        self.at = torch.add(self.at, updates["r"], alpha=rate)

    def _clients(self, number: int, rate: float) -> None:
        """Clients step side by side, each with an optimizer of its own; the mean of their weights."""
        asked = self.setting.round(number)
        owned = self._owned(len(asked), number)
        weights = self.at.expand(len(asked), -1).clone()
        local = self.optimizer.init({"r": weights})
        for step in range(len(asked[0][2])):
            found = self._estimates([own[step] for _, _, own in asked], weights, owned, number, step)
            updates, local = self.optimizer.update({"r": found * owned}, local, {"r": weights})
            weights = torch.addcmul(weights, owned, updates["r"], value=rate)
        share = owned * torch.tensor([float(examples) for _, examples, _ in asked])[:, None]
        mean = (share * weights).sum(0) / share.sum(0).clamp(min=1e-12)
        self.at = torch.where(share.sum(0) > 0, mean, self.at)

    def _owned(self, clients: int, number: int) -> Tensor:
        """Which numbers each client trains, shape (clients, d)."""
        client, place = torch.arange(clients)[:, None], torch.arange(len(self.subspace.columns))
        owned = (place + number + client) % self.trial.split == 0
        return owned.float().repeat_interleave(self.subspace.rank**2, 1)

    def _estimates(
        self, batches: Sequence[Sequence[int]], at: Tensor, owned: Tensor, number: int, step: int
    ) -> Tensor:
        """The gradient of each batch, shape (G, d), exact or from K slopes along directions of its own."""
        places = [place for batch in batches for place in batch]
        groups = torch.tensor([group for group, batch in enumerate(batches) for _ in batch])
        states = self.setting.states(places, self.subspace.lowest)
        _, exact = gradients(
            self.setting.model, states, self.setting.labels(places), groups, self.subspace, at
        )
        if not self.trial.slopes:
            return exact
        key = Key(self.trial.seed).fold("directions", number, step)
        v = key.normal("v", (len(exact), self.trial.slopes, exact.shape[1])) * owned[:, None]
        if self.trial.directions == "orthogonal":  # without a split: all numbers have right angles together
            v = torch.linalg.qr(v.mT)[0].mT * exact.shape[1] ** 0.5
        return torch.einsum("gkd,gk->gd", v, torch.einsum("gkd,gd->gk", v, exact)) / self.trial.slopes
