"""The Gaussian mechanism as update transforms: noise of the server on the sum, or of each client on what it sends."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from spry.core.keys import Key
from spry.core.params import Params
from spry.federated.privacy.bounds import Bounds
from spry.federated.summing import SLOPES
from spry.federated.transforms import Cohort
from spry.wire.codec import encode_order
from spry.wire.messages import Gradient, Order, Payload, Slopes, Weights


@dataclass(frozen=True, kw_only=True)
class CentralNoise:
    """Clients shorten what they send, and the server adds noise to its sum: ``sum_i clip(x_i) + N(0, (z C)^2)``.

    Whoever sees the weights learns little of any one client, or example; the server sees all replies. It serves rounds
    whose replies are summed (``federated.summing``).

    Args:
        noise: Multiplier z >= 0.
        key: Where the noise comes from. Who knows it can take the noise away.

    Source:
        McMahan et al. 2018 (arXiv 1710.06963) for clients; Abadi et al. 2016 (arXiv 1607.00133) for examples; Zhang et
        al. 2024 (DPZero, arXiv 2310.09639) and Tang et al. 2024 (DP-ZO, arXiv 2401.04343) for slopes.
    """

    bounds: Bounds
    noise: float
    key: Key

    def client(self, payload: Payload, order: Order) -> Payload:
        return _payload(self.bounds.shorten(_numbers(payload, order)), payload, order)

    def server(self, gradient: Params, cohort: Cohort) -> Params:
        here = self.key.fold("central noise", cohort.round)
        return noised(gradient, self.bounds, self.noise, here)


@dataclass(frozen=True, kw_only=True)
class LocalNoise:
    """Clients shorten what they send and add noise to it: ``clip(x_i) + N(0, (2 z C)^2)``; nobody has to be trusted.

    The noise hides whichever data a client has instead of others: two shortened replies lie up to 2 C apart.

    Args:
        noise: Multiplier z >= 0.
        key: Where the noise comes from; each client draws its own.
        by_order: Whether noise depends on all that a client is asked, too: of two replies to different orders of one
            round, none tells the other's noise.

    Source:
        Dwork & Roth 2014, appendix A, for the Gaussian mechanism; Duchi, Jordan & Wainwright 2013 for the local model.
    """

    bounds: Bounds
    noise: float
    key: Key
    by_order: bool = False

    def client(self, payload: Payload, order: Order) -> Payload:
        here = self.key.fold("local noise", order.round, "client", order.client)
        if self.by_order:
            here = here.fold(hashlib.sha256(encode_order(order)).hexdigest())
        sent = self.bounds.shorten(_numbers(payload, order))
        return _payload(noised(sent, self.bounds, 2 * self.noise, here), payload, order)

    def server(self, gradient: Params, cohort: Cohort) -> Params:
        return gradient


def noised(values: Params, bounds: Bounds, noise: float, key: Key) -> dict[str, Tensor]:
    """Add independent normal noise of ``noise`` times the sensitivity to every number, in float64."""
    return {
        name: value.double()
        + noise * bounds.sensitivity(name) * standard_normal(key, name, tuple(value.shape)).to(value.device)
        for name, value in values.items()
    }


def standard_normal(key: Key, name: str, shape: tuple[int, ...]) -> Tensor:
    """Draw in float64, on the CPU."""
    drawn = torch.empty(shape, dtype=torch.float64)
    key.generator(name).standard_normal(out=drawn.numpy())
    return drawn


def _numbers(payload: Payload, order: Order) -> Mapping[str, Tensor]:
    """What is private of a payload; its slopes under a name of their own."""
    match payload:
        case Weights(values):
            return {name: value.double() - order.weights[name].double() for name, value in values.items()}
        case Gradient(values):
            return values
        case Slopes(slopes):
            return {SLOPES: slopes}


def _payload(numbers: Mapping[str, Tensor], like: Payload, order: Order) -> Payload:
    match like:
        case Weights(values):
            starts = order.weights
            return Weights({n: (starts[n].double() + numbers[n]).to(v) for n, v in values.items()})
        case Gradient(values):
            return Gradient({n: numbers[n].to(v) for n, v in values.items()})
        case Slopes(slopes):
            return Slopes(numbers[SLOPES].to(slopes))
