"""The update rules, one function each, in the letters of their papers: g gradient, w weight, m and v moments."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from spry.core.errors import ConfigError
from spry.core.params import Params, tree_map
from spry.optim.transform import OptState, Slots, Transform, tensorwise


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise ConfigError(f"{name} is {value}; it must be greater than 0")


def _fraction(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ConfigError(f"{name} is {value}; it must lie in [0, 1)")


def _count() -> Tensor:
    return torch.zeros((), dtype=torch.float64)


def sgd(lr: float, momentum: float = 0.0) -> Transform:
    """Gradient descent, ``m <- beta m + g``, ``w <- w - lr m``, as ``torch.optim.SGD``.

    Args:
        lr: Step size, > 0.
        momentum: ``beta`` in [0, 1); without it no state is kept.
    """
    _positive("lr", lr)
    _fraction("momentum", momentum)
    if not momentum:
        return tensorwise(lambda w: {}, lambda g, s, w: (-lr * g, {}))

    def update(g: Tensor, s: Slots, w: Tensor) -> tuple[Tensor, Slots]:
        m = momentum * s["m"] + g
        return -lr * m, {"m": m}

    return tensorwise(lambda w: {"m": torch.zeros_like(w)}, update)


def adam(
    lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0
) -> Transform:
    """Adam with decoupled weight decay, ``w <- w - lr (mhat / (sqrt(vhat) + eps) + lambda w)``, as
    ``torch.optim.AdamW``.

    Args:
        lr: Step size, > 0.
        betas: Decay of the first and second moment, each in [0, 1).
        eps: Added to the root, > 0.
        weight_decay: ``lambda`` >= 0; 0 is plain Adam.

    Source:
        Kingma and Ba 2015, algorithm 1; Loshchilov and Hutter 2019, algorithm 2.
    """
    _positive("lr", lr)
    _positive("eps", eps)
    b1, b2 = betas
    _fraction("betas[0]", b1)
    _fraction("betas[1]", b2)

    def init(w: Tensor) -> Slots:
        return {"m": torch.zeros_like(w), "v": torch.zeros_like(w), "t": _count()}

    def update(g: Tensor, s: Slots, w: Tensor) -> tuple[Tensor, Slots]:
        t = s["t"] + 1
        m = b1 * s["m"] + (1 - b1) * g
        v = b2 * s["v"] + (1 - b2) * g * g
        steps = float(t)
        root = (v / (1 - b2**steps)).sqrt() + eps
        return -lr * (m / (1 - b1**steps) / root + weight_decay * w), {"m": m, "v": v, "t": t}

    return tensorwise(init, update)


def adamw(
    lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.01
) -> Transform:
    """Adam with torch's default decoupled weight decay; see ``adam``."""
    return adam(lr, betas, eps, weight_decay)


def adagrad(lr: float, eps: float = 1e-10) -> Transform:
    """Adagrad, ``v <- v + g^2``, ``w <- w - lr g / (sqrt(v) + eps)``, as ``torch.optim.Adagrad``.

    Source:
        Duchi, Hazan and Singer 2011.
    """
    _positive("lr", lr)
    _positive("eps", eps)

    def update(g: Tensor, s: Slots, w: Tensor) -> tuple[Tensor, Slots]:
        v = s["v"] + g * g
        return -lr * g / (v.sqrt() + eps), {"v": v}

    return tensorwise(lambda w: {"v": torch.zeros_like(w)}, update)


def yogi(lr: float, betas: tuple[float, float] = (0.9, 0.99), tau: float = 1e-3) -> Transform:
    """Yogi for servers: ``v <- v - (1 - beta2) g^2 sign(v - g^2)``, ``w <- w - lr m / (sqrt(v) + tau)``.

    Args:
        lr: Step size ``eta``, > 0.
        betas: Decay of the first and second moment, each in [0, 1); their bias is not corrected, as in the paper.
        tau: Degree of adaptivity, > 0; the second moment starts at ``tau^2``.

    Source:
        Reddi et al. 2021 (arXiv 2003.00295), algorithm 2, FedYogi.
    """
    _positive("lr", lr)
    _positive("tau", tau)
    b1, b2 = betas
    _fraction("betas[0]", b1)
    _fraction("betas[1]", b2)

    def update(g: Tensor, s: Slots, w: Tensor) -> tuple[Tensor, Slots]:
        square = g * g
        m = b1 * s["m"] + (1 - b1) * g
        v = s["v"] - (1 - b2) * square * torch.sign(s["v"] - square)
        return -lr * m / (v.sqrt() + tau), {"m": m, "v": v}

    return tensorwise(lambda w: {"m": torch.zeros_like(w), "v": torch.full_like(w, tau * tau)}, update)


def clip(norm: float) -> Transform:
    """Scale gradients to a joint norm of at most c, ``g <- g min(1, c / |g|)``; ``chain`` it before an optimizer."""
    _positive("norm", norm)

    def update(grads: Params, state: OptState, params: Params) -> tuple[dict[str, Tensor], OptState]:
        total = float(sum(g.double().square().sum() for g in grads.values())) ** 0.5
        factor = min(1.0, norm / (total + 1e-6))
        return tree_map(lambda g: g * factor, grads), state

    return Transform(lambda params: {}, update)


def schedule(factor: Callable[[int], float]) -> Transform:
    """Scale updates, ``u_t <- f(t) u_t``, t of a weight counted from 0; ``chain`` it after an optimizer."""

    def update(u: Tensor, s: Slots, w: Tensor) -> tuple[Tensor, Slots]:
        return factor(int(s["t"])) * u, {"t": s["t"] + 1}

    return tensorwise(lambda w: {"t": _count()}, update)


def warmup_linear(steps: int, warmup: int) -> Transform:
    """Raise the step size linearly for W = ``warmup`` steps, then let it fall to nothing at T = ``steps`` > W.

    ``f(t) = (t + 1) / (W + 1)`` for the W steps of warm-up, then ``(T - t) / (T - W)``, and 0 from step T on.
    """
    if not 0 <= warmup < steps:
        raise ConfigError(
            f"a warm-up of {warmup} steps does not fit into {steps}; it must be from 0 to {steps - 1}"
        )

    def factor(t: int) -> float:
        return (t + 1) / (warmup + 1) if t < warmup else max(steps - t, 0) / (steps - warmup)

    return schedule(factor)
