"""The methods by name: each is a composition of an estimator, two optimizers and a split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from spry.core.errors import ConfigError, nearest
from spry.core.unit import Unit
from spry.estimators.backprop import backprop
from spry.estimators.head import exact_head
from spry.estimators.slopes import central_difference, forward_difference
from spry.federated.algorithm import Algorithm, compose
from spry.federated.fwdllm import paced
from spry.federated.local import alone
from spry.federated.settings import Settings
from spry.federated.split import cyclic, everything
from spry.federated.split import head_only as head_alone
from spry.optim.rules import adamw, sgd, warmup_linear, yogi
from spry.optim.transform import chain

Units = Sequence[Unit]
Method = Callable[[Units, Settings], Algorithm]

LOCAL, PLAIN = adamw(1e-3), sgd(1e-3)
MEAN, GRADIENT, ADAPTIVE = sgd(1.0), sgd(0.1), yogi(1e-2)


def spry(units: Units, s: Settings) -> Algorithm:
    """Forward-mode gradients of dealt slices, united by an adaptive server (Panchal et al. 2024)."""
    return compose(
        name="spry", units=units, estimator=s.forward(units), replayed=s.replayed(units), split=s.split or cyclic,
        client=s.client or LOCAL, server=s.server or ADAPTIVE, recall=s.recall(units),
    )  # fmt: skip


def spry_per_iteration(units: Units, s: Settings) -> Algorithm:
    """Spry with one server step a round: slopes, or mean gradients of taps, at its weights (the same paper)."""
    return compose(
        name="spry_per_iteration", units=units, estimator=s.forward(units), split=s.split or cyclic, client=None,
        replayed=None if s.tap else s.measurement(units), server=s.server or ADAPTIVE, recall=s.recall(units),
    )  # fmt: skip


def fedavg(units: Units, s: Settings) -> Algorithm:
    """Backpropagation on every client, weights averaged (McMahan et al. 2017)."""
    return compose(
        name="fedavg", units=units, estimator=backprop(s.checkpoint), split=everything,
        client=s.client or LOCAL, server=s.server or MEAN,
    )  # fmt: skip


def fedyogi(units: Units, s: Settings) -> Algorithm:
    """Backpropagation on every client, an adaptive server (Reddi et al. 2021)."""
    return compose(
        name="fedyogi", units=units, estimator=backprop(s.checkpoint), split=everything,
        client=s.client or LOCAL, server=s.server or ADAPTIVE,
    )  # fmt: skip


def fedsgd(units: Units, s: Settings) -> Algorithm:
    """Backpropagated gradients at the server's weights, averaged, one server step a round (McMahan et al. 2017)."""
    return compose(
        name="fedsgd", units=units, estimator=backprop(s.checkpoint), split=everything,
        client=None, server=s.server or GRADIENT,
    )  # fmt: skip


def fedavg_split(units: Units, s: Settings) -> Algorithm:
    """FedAvg on dealt slices: what splitting alone does to backpropagation (Panchal et al. 2024, ablation)."""
    return compose(
        name="fedavg_split", units=units, estimator=backprop(s.checkpoint), split=s.split or cyclic,
        client=s.client or LOCAL, server=s.server or MEAN,
    )  # fmt: skip


def fedyogi_split(units: Units, s: Settings) -> Algorithm:
    """FedYogi on dealt slices: what splitting alone does to backpropagation (Panchal et al. 2024, ablation)."""
    return compose(
        name="fedyogi_split", units=units, estimator=backprop(s.checkpoint), split=s.split or cyclic,
        client=s.client or LOCAL, server=s.server or ADAPTIVE,
    )  # fmt: skip


def fedfgd(units: Units, s: Settings) -> Algorithm:
    """Forward-mode gradients of all weights on every client: Spry without the split (Panchal et al. 2024, ablation)."""
    return compose(
        name="fedfgd", units=units, estimator=s.forward(units), replayed=s.replayed(units), split=everything,
        client=s.client or LOCAL, server=s.server or ADAPTIVE, recall=s.recall(units),
    )  # fmt: skip


def fedmezo(units: Units, s: Settings) -> Algorithm:
    """Central differences along random directions on every client, weights averaged (Malladi et al. 2023)."""
    return compose(
        name="fedmezo", units=units, recall=s.recall(units), replayed=s.replayed(units),
        estimator=s.along(central_difference(s.h or 1e-3), units), split=everything,
        client=s.client or PLAIN, server=s.server or MEAN,
    )  # fmt: skip


def baffle(units: Units, s: Settings) -> Algorithm:
    """Finite differences at the server's weights; clients send numbers, the server steps (Feng et al. 2023)."""
    slope = (s.difference or forward_difference)(s.h or 1e-3)
    return compose(
        name="baffle", units=units, recall=s.recall(units), estimator=s.along(slope, units),
        replayed=s.measurement(units), split=everything, client=None, server=s.server or GRADIENT,
    )  # fmt: skip


def fwdllm(units: Units, s: Settings) -> Algorithm:
    """Central differences along well-chosen directions, collected until two halves agree (Xu et al. 2024)."""
    step = s.server or GRADIENT
    return paced(
        name="fwdllm", units=units, slope=central_difference(s.h or 1e-2), counts=s.counts, pacing=s.pacing,
        sleep=s.sleep, measurement=replace(s.measurement(units), pool=s.pool or 10, control=None),
        server=chain(step, warmup_linear(s.rounds, s.rounds // 10)) if s.rounds else step,
    )  # fmt: skip


def head_only(units: Units, s: Settings) -> Algorithm:
    """The head's exact gradient and a frozen backbone: the bound every other method has to beat."""
    return compose(
        name="head_only", units=[unit for unit in units if unit.head], estimator=exact_head(), split=head_alone,
        client=s.client or LOCAL, server=s.server or MEAN,
    )  # fmt: skip


def head_only_per_iteration(units: Units, s: Settings) -> Algorithm:
    """The same with one server step a round, from the head's gradients at its weights."""
    return compose(
        name="head_only_per_iteration", units=[unit for unit in units if unit.head], estimator=exact_head(),
        split=head_alone, client=None, server=s.server or ADAPTIVE,
    )  # fmt: skip


def local(units: Units, s: Settings) -> Algorithm:
    """No federation: each client backpropagates on its own data alone; the bound on not taking part."""
    return alone(name="local", units=units, estimator=backprop(s.checkpoint), client=s.client or LOCAL)


METHODS: Mapping[str, Method] = {
    method.__name__: method
    for method in (
        spry,
        spry_per_iteration,
        fedavg,
        fedyogi,
        fedsgd,
        fedavg_split,
        fedyogi_split,
        fedfgd,
        fedmezo,
        baffle,
        fwdllm,
        head_only,
        head_only_per_iteration,
        local,
    )
}

FORWARD = ("spry", "spry_per_iteration", "fedfgd")
"""Methods that run in forward mode, whose directions may lie in weights or in outputs."""


def method(name: str, units: Units, settings: Settings) -> Algorithm:
    """Make an algorithm from a method's name.

    Args:
        name: A key of ``METHODS``.
        units: The units to train, in the model's order.
        settings: What is chosen beyond the name.

    Returns:
        The algorithm.

    Raises:
        ConfigError: If the name is unknown.
    """
    if name not in METHODS:
        raise ConfigError(f"no method {name!r}. {nearest(name, METHODS)}")
    return METHODS[name](units, settings)
