"""Rules for noisy gradients: steps shrunk where noise outweighs the mean, and a guard against single huge slopes."""

from __future__ import annotations

import torch
from torch import Tensor

from spry.core.errors import ConfigError
from spry.optim.transform import Slots, Transform, tensorwise


def svag(lr: float, beta: float = 0.9) -> Transform:
    """Momentum whose steps shrink with the estimated noise, ``w <- w - lr gamma mhat``.

    ``gamma = mhat^2 / (mhat^2 + rho s)`` for each weight, with s the variance of the gradients as their running means
    tell it, and ``rho s`` that of ``mhat``: 1 where gradients agree, near 0 where they only scatter.

    Args:
        lr: Step size, > 0.
        beta: Decay of both running means, in [0, 1).

    Returns:
        The transform; without momentum (``beta = 0``) noise cannot be seen and it is plain descent.

    Raises:
        ConfigError: If a setting is out of range.

    Source:
        Balles and Hennig 2018 (arXiv 1705.07774), M-SVAG.
    """
    if not lr > 0:
        raise ConfigError(f"lr is {lr}; it must be greater than 0")
    if not 0 <= beta < 1:
        raise ConfigError(f"beta is {beta}; it must lie in [0, 1)")

    def init(w: Tensor) -> Slots:
        zero = torch.zeros_like(w)
        return {"m": zero, "v": zero.clone(), "t": torch.zeros((), dtype=torch.float64)}

    def update(g: Tensor, s: Slots, w: Tensor) -> tuple[Tensor, Slots]:
        t = s["t"] + 1
        m = beta * s["m"] + (1 - beta) * g
        v = beta * s["v"] + (1 - beta) * g * g
        old = beta ** float(t)
        mean, square = m / (1 - old), v / (1 - old)
        rho = (1 - beta) * (1 + old) / ((1 + beta) * (1 - old))
        # of a single gradient there is no variance to see
        noise = (square - mean * mean).clamp_min(0) * (rho / (1 - rho) if rho < 1 - 1e-9 else 0.0)
        energy = mean * mean
        gamma = torch.where(energy > 0, energy / (energy + noise), torch.zeros_like(energy))
        return -lr * gamma * mean, {"m": m, "v": v, "t": t}

    return tensorwise(init, update)


def guard(factor: float, window: int = 32) -> Transform:
    """Shorten gradients that stick out: ``g <- g min(1, c median / |g|)`` over each weight's own last norms.

    Along one rademacher direction ``|g| = |s| sqrt(d)``, so this is a bound of c times the median on the slope; along
    other directions nearly so. A gradient that is not finite is left out altogether. It treats each weight on its own,
    so that slopes can be replayed. It is biased: what is cut off is lost, and large gradients of rare batches are cut
    off with the noise.

    Args:
        factor: ``c`` >= 1.
        window: How many norms are remembered, >= 1; the present one is among those that the median is of.

    Returns:
        The transform. Put it before an optimizer with ``chain``.

    Raises:
        ConfigError: If a setting is out of range.
    """
    if not factor >= 1:
        raise ConfigError(f"the guard's factor is {factor}; it must be at least 1, for example 5")
    if window < 1:
        raise ConfigError(f"the guard's window is {window}; it must be at least 1")

    def init(w: Tensor) -> Slots:
        return {"norms": torch.full((window,), float("nan"), dtype=torch.float64, device=w.device)}

    def update(g: Tensor, s: Slots, w: Tensor) -> tuple[Tensor, Slots]:
        norm = g.double().norm()
        if not norm.isfinite():
            return torch.zeros_like(g), s
        norms = torch.cat([s["norms"][1:], norm[None]])
        limit = factor * norms.nanmedian()
        return g * (limit / norm).clamp(max=1.0).to(g.dtype) if norm > limit else g, {"norms": norms}

    return tensorwise(init, update)
