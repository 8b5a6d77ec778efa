"""Check the engine on a model, one unit at a time: its slopes against backpropagation and against finite differences.

For people who bring a new architecture: a slope that is right for every unit means that every operation between the
unit and the loss has a right derivative. Knows no model library: a module, and its loss as a function of the weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.core.params import Params, add, dot, restrict, tree_map
from spry.core.units import Unit
from spry.forward.check_modules import Unsupported, unsupported
from spry.forward.diagnostics import FallbackReport, track_fallbacks
from spry.forward.functional import jvp

ModuleLoss = Callable[[nn.Module, Params], Tensor]
"""The scalar loss of one batch on a module with the given weights, plain or dual."""

LIMITS: Mapping[torch.dtype, float] = {
    torch.float64: 1e-6,  # some models compute parts in float32 whatever their dtype
    torch.float32: 1e-4,
    torch.float16: 2e-2,
    torch.bfloat16: 1e-1,
}
"""How far jvp and backpropagation may differ, by dtype; in half precision backpropagation itself is that far off."""

DIFFERENCE_LIMIT = 1e-3
STEPS = (1e-1, 1e-3, 1e-6)
"""How far the finite differences move the weights, as the norm of the move; the best of them counts. A long step errs
where the loss bends or has a kink (ReLU), a short one where the model computes parts in float32 whatever its dtype. A
wrong slope is near none of them."""
TOGETHER = 8
"""Units whose directions go through one pass: more is faster, and holds more in memory."""


class Difference(NamedTuple):
    """A finite difference's distance from the slope, relative to ``|g|``, and how far it may be off."""

    error: float
    limit: float


@dataclass(frozen=True, kw_only=True)
class UnitCheck:
    """The engine's slope along a random direction of one unit.

    Args:
        unit: The unit's name.
        slope: The slope.
        gradient_error: ``|s - <g, v>| / |g|`` with backpropagation's gradient g of the unit, in the model's dtype.
        difference_error: ``|s - d| / |g|`` with both in float64, d the finite difference; None if there is no float64
            copy of the model (quantised weights).
        passed: Whether both are within their limits, and the unit's gradient is not zero.
    """

    unit: str
    slope: float
    gradient_error: float
    difference_error: float | None
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a check found.

    Args:
        units: One entry per unit, in model order; empty if the engine could not run the model.
        fallbacks: Operations without a rule of their own, and how often they were met: right, but not lean.
        dropped: Operations that stopped the derivative, as they do for autograd.
        unsupported: Modules that the engine cannot run.
    """

    units: tuple[UnitCheck, ...]
    fallbacks: Mapping[str, int]
    dropped: Mapping[str, int]
    unsupported: tuple[Unsupported, ...]

    @property
    def passed(self) -> bool:
        """Whether every unit passed and every module is supported."""
        return bool(self.units) and not self.unsupported and all(unit.passed for unit in self.units)


def check(
    module: nn.Module,
    loss: ModuleLoss,
    params: Params,
    units: Sequence[Unit],
    key: Key,
    *,
    differences: bool = True,
) -> Checked:
    """Compare the engine's slope along a random direction of each unit with two others.

    Args:
        module: The model in evaluation mode; it is not changed.
        loss: Its loss; must also run on a float64 copy of the module, with float64 weights.
        params: The trainable weights; where a unit's gradient is zero at them, nothing can be told.
        units: Units to check, of weights in ``params``.
        key: Source of the directions.
        differences: Whether to compare with finite differences too, which takes a float64 copy of the model and
            a dozen evaluations for each unit.

    Returns:
        What was found.
    """
    directions = [_direction(params, unit, key) for unit in units]
    try:
        slopes, report = _slopes(module, loss, params, directions)
    except ModelError as error:
        found = unsupported(module, lambda: loss(module, params), key, error)
        return Checked(units=(), fallbacks={}, dropped={}, unsupported=found)
    gradients = _gradients(module, loss, params, units)
    twin = _twin(module) if differences else None
    found = [None] * len(units) if twin is None else _differences(twin, loss, params, directions, gradients)
    return Checked(
        units=tuple(map(partial(_judge, _limit(module)), units, slopes, directions, gradients, found)),
        fallbacks=dict(report.fallbacks),
        dropped=dict(report.dropped),
        unsupported=(),
    )


def _direction(params: Params, unit: Unit, key: Key) -> Params:
    moved = restrict(params, unit.names)
    return {name: key.normal(name, tuple(weight.shape), weight) for name, weight in moved.items()}


def _slopes(
    module: nn.Module, loss: ModuleLoss, params: Params, directions: Sequence[Params]
) -> tuple[list[float], FallbackReport]:
    slopes: list[float] = []
    with track_fallbacks() as report:
        for start in range(0, len(directions), TOGETHER):
            some = directions[start : start + TOGETHER]
            slopes += jvp(lambda weights: loss(module, weights), params, some)[1].detach().double().tolist()
    return slopes, report


def _gradients(module: nn.Module, loss: ModuleLoss, params: Params, units: Sequence[Unit]) -> list[Params]:
    leaves = tree_map(lambda weight: weight.detach().clone().requires_grad_(), params)
    with torch.enable_grad():
        value = loss(module, leaves)
    found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
    gradients = {
        name: torch.zeros_like(leaf) if gradient is None else gradient
        for (name, leaf), gradient in zip(leaves.items(), found, strict=True)
    }
    return [restrict(gradients, unit.names) for unit in units]


def _twin(module: nn.Module) -> nn.Module | None:
    """A float64 copy, if all weights are floating-point numbers."""
    if any(not weight.is_floating_point() for weight in module.parameters()):
        return None
    return copy.deepcopy(module).double()


def _differences(
    twin: nn.Module,
    loss: ModuleLoss,
    params: Params,
    directions: Sequence[Params],
    gradients: Sequence[Params],
) -> list[Difference]:
    params = tree_map(lambda weight: weight.detach().double(), params)
    found = []
    for direction, gradient in zip(directions, gradients, strict=True):
        moved = tree_map(torch.Tensor.double, direction)
        value, slope = jvp(lambda weights: loss(twin, weights), params, [moved])
        length = dot(moved, moved) ** 0.5

        def at(step: float, moved: Params = moved) -> float:
            with torch.no_grad():
                return float(loss(twin, add(params, tree_map(lambda v: step * v, moved))))

        errors = [_relative(float(slope) - _difference(at, step / length), gradient) for step in STEPS]
        rounding = torch.finfo(value.dtype).eps * abs(float(value)) * length / max(STEPS)
        found.append(Difference(min(errors), DIFFERENCE_LIMIT + 4 * _relative(rounding, gradient)))
    return found


def _difference(at: Callable[[float], float], h: float) -> float:
    """``(8 (L(h) - L(-h)) - (L(2h) - L(-2h))) / 12h``, off by h^4."""
    return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)


def _limit(module: nn.Module) -> float:
    return max(LIMITS.get(weight.dtype, 0.0) for weight in module.parameters())


def _judge(
    limit: float, unit: Unit, slope: float, direction: Params, gradient: Params, difference: Difference | None
) -> UnitCheck:
    error = _relative(slope - dot(gradient, direction), gradient)
    return UnitCheck(
        unit=unit.name,
        slope=slope,
        gradient_error=error,
        difference_error=None if difference is None else difference.error,
        passed=error <= limit and (difference is None or difference.error <= difference.limit),
    )


def _relative(error: float, gradient: Params) -> float:
    """An error in units of the slope's expected size, ``|g|``; infinite where the gradient is zero and it is not."""
    size = dot(gradient, gradient) ** 0.5
    return abs(error) / size if size else (float("inf") if error else 0.0)
