"""Check the engine on a model, one unit at a time: its slopes against backpropagation and against finite differences.

For people who bring a new architecture: a slope that is right for every unit means that every operation between the
unit and the loss has a right derivative. Knows no model library: a module, and its loss as a function of the weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf, isfinite
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.core.params import Params, add, dot, leaf, restrict, tree_map
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
MOST_DOUBT = 1e-1
"""How unsure a finite difference may be of itself and still count."""
STEPS = (1e-1, 1e-2, 1e-3, 1e-6)
"""How far the finite differences move the weights, as the norm of the move; the best of the surest counts. A long
step errs where the loss bends or has a kink (ReLU), a short one by rounding: some models compute parts in float32
whatever their dtype."""
SHORT = 1e-3
"""Up to such a step a loss bends by its rounding rather than by its curvature."""
STILL = 1e-6
"""A gradient so much smaller than the largest unit's may be rounding alone, of one that is zero."""
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
        gradient_error: ``|s - <g, v>| / |g|`` with backpropagation's gradient g of the unit, in the model's dtype.
        difference_error: ``|s - d| / |g|`` with both in float64, d the finite difference; None where rounding hides it,
            or the model does not run in float64 (``Checked.no_differences`` says why).
        is_still: Whether the gradient and the slope are zero, up to rounding: then nothing can be told.
        passed: Whether both are within their limits, and the unit's gradient is not zero.
    """

    unit: str
    slope: float
    gradient_error: float
    difference_error: float | None
    is_still: bool
    passed: bool


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a check found.

    Args:
        units: In model order; empty if the engine could not run the model.
        fallbacks: Operations without a rule of their own, and how often they were met: right, but not lean.
        dropped: Operations that stopped the derivative, as they do for autograd.
        no_differences: Why there are no finite differences though they were asked for; else None.
    """

    units: tuple[UnitCheck, ...]
    fallbacks: Mapping[str, int]
    dropped: Mapping[str, int]
    unsupported: tuple[Unsupported, ...]
    no_differences: str | None = None

    @property
    def passed(self) -> bool:
        """Whether no unit's slope is wrong, most can be told, and every module is supported."""
        told = [unit for unit in self.units if not unit.is_still]
        most = bool(told) and 2 * len(told) >= len(self.units)
        return most and not self.unsupported and all(unit.passed for unit in told)


def check(
    module: nn.Module,
    loss: ModuleLoss,
    params: Params,
    units: Sequence[Unit],
    key: Key,
    *,
    differences: bool = True,
) -> Checked:
    """Compare the engine's slope along a random direction of each unit with backpropagation's and finite differences'.

    The module is in evaluation mode and is not changed. Where a unit's gradient is zero at ``params``, nothing can be
    told. Finite differences take a float64 copy of the module, on which ``loss`` must run with float64 weights, and
    seventeen evaluations for each unit.
    """
    directions = [_direction(params, unit, key) for unit in units]
    try:
        slopes, report = _slopes(module, loss, params, directions)
    except ModelError as error:
        found = unsupported(module, lambda: loss(module, params), key, error)
        return Checked(units=(), fallbacks={}, dropped={}, unsupported=found)
    gradients = _gradients(module, loss, params, units)
    largest = max(_norm(gradient) for gradient in gradients)
    distances: list[Difference | None] = [None] * len(units)
    reason = None
    if differences:
        try:
            distances = _differences(_twin(module, loss, params), loss, params, directions, gradients)
        except _NoTwinError as error:
            reason = str(error)
    return Checked(
        units=tuple(
            map(partial(_judge, _limit(module), largest), units, slopes, directions, gradients, distances)
        ),
        fallbacks=dict(report.fallbacks),
        dropped=dict(report.dropped),
        unsupported=(),
        no_differences=reason,
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
    leaves = tree_map(leaf, params)
    with torch.enable_grad():
        value = loss(module, leaves)
    found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
    gradients = {
        name: torch.zeros_like(weight) if gradient is None else gradient
        for (name, weight), gradient in zip(leaves.items(), found, strict=True)
    }
    return [restrict(gradients, unit.names) for unit in units]


class _NoTwinError(Exception):
    """The model has no float64 copy that computes its loss."""


def _twin(module: nn.Module, loss: ModuleLoss, params: Params) -> nn.Module:
    """A float64 copy that computes a finite loss."""
    try:
        twin = copy.deepcopy(module)._apply(_widened)
        with torch.no_grad():
            value = loss(twin, _in_float64(params))
    except RuntimeError as error:  # a kernel for other types
        raise _NoTwinError(f"it does not run in float64: {str(error).splitlines()[0]}") from error
    if not value.isfinite():
        raise _NoTwinError("its loss is not finite in float64")
    return twin


def _widened(tensor: Tensor) -> Tensor:
    """Cast plain numbers; a packed weight is dequantised to whatever type its input has."""
    plain = type(tensor) in {Tensor, nn.Parameter} and tensor.is_floating_point()
    return tensor.double() if plain else tensor


def _in_float64(params: Params) -> Params:
    return tree_map(lambda weight: weight.detach().double(), params)


def _differences(
    twin: nn.Module,
    loss: ModuleLoss,
    params: Params,
    directions: Sequence[Params],
    gradients: Sequence[Params],
) -> list[Difference | None]:
    params = _in_float64(params)
    found = []
    for direction, gradient in zip(directions, gradients, strict=True):
        moved = _in_float64(direction)
        value, slope = jvp(lambda weights: loss(twin, weights), params, [moved])

        def at(distance: float, moved: Params = moved) -> float:
            with torch.no_grad():
                return float(loss(twin, add(params, tree_map(lambda v: distance * v, moved))))

        rounding = torch.finfo(value.dtype).eps * abs(float(value))
        found.append(_best_difference(at, float(slope), gradient, dot(moved, moved) ** 0.5, rounding))
    return found


def _best_difference(
    at: Callable[[float], float], slope: float, gradient: Params, length: float, rounding: float
) -> Difference | None:
    """Compare a slope with ``(8 (L(h) - L(-h)) - (L(2h) - L(-2h))) / 12h`` at the surest steps; None if none is sure.

    A difference is unsure by the loss's rounding, by the bend ``L(h) + L(-h) - 2 L(0)``, which a kink between gives as
    well, and by how far it is from the difference of twice the step.
    """
    middle = at(0.0)
    points = {step: [at(m * step / length) for m in (-2, -1, 1, 2)] for step in STEPS}
    bends = {step: abs(b + c - 2 * middle) / 2 for step, (_, b, c, _) in points.items()}
    short = [bend for step, bend in bends.items() if step <= SHORT]
    rounding = max(rounding, *short)
    found = []
    for step, (a, b, c, d) in points.items():
        h = step / length
        near, far = (c - b) / (2 * h), (d - a) / (4 * h)
        doubt = _relative((4 * rounding + bends[step]) / h + abs(near - far), gradient)
        error = _relative(slope - (4 * near - far) / 3, gradient)
        if isfinite(error) and doubt <= MOST_DOUBT:
            found.append((doubt, Difference(error, DIFFERENCE_LIMIT + doubt)))
    least = min((doubt for doubt, _ in found), default=0.0)
    sure = [difference for doubt, difference in found if doubt <= max(10 * least, DIFFERENCE_LIMIT)]
    return min(sure, key=lambda x: x.error / x.limit, default=None)


def _limit(module: nn.Module) -> float:
    return max(LIMITS.get(weight.dtype, 0.0) for weight in module.parameters())


def _judge(
    limit: float,
    largest: float,
    unit: Unit,
    slope: float,
    direction: Params,
    gradient: Params,
    difference: Difference | None,
) -> UnitCheck:
    error = _relative(slope - dot(gradient, direction), gradient)
    size = max(_norm(gradient), abs(slope))
    is_still = not size or (error > limit and size <= STILL * largest)
    right = error <= limit and (difference is None or difference.error <= difference.limit)
    return UnitCheck(
        unit=unit.name,
        slope=slope,
        gradient_error=error,
        difference_error=None if difference is None else difference.error,
        is_still=is_still,
        passed=right and not is_still,
    )


def _norm(gradient: Params) -> float:
    return float(dot(gradient, gradient)) ** 0.5


def _relative(error: float, gradient: Params) -> float:
    """An error in units of the slope's expected size, ``|g|``; infinite where the gradient is zero and it is not."""
    size = _norm(gradient)
    return abs(error) / size if size else (inf if error else 0.0)
