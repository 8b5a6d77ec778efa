"""Modules as functions of their weights, and the slopes of such functions along directions."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spry.core.errors import ModelError, nearest
from spry.core.params import Params
from spry.forward.diagnostics import track_fallbacks
from spry.forward.dual import Dual
from spry.forward.promotion import forward_pass

_locks: weakref.WeakKeyDictionary[nn.Module, threading.RLock] = weakref.WeakKeyDictionary()
_locks_lock = threading.Lock()


def jvp(
    loss: Callable[[Params], Tensor], params: Params, directions: Sequence[Params]
) -> tuple[Tensor, Tensor]:
    """Compute a loss and its slopes along K directions in one pass: ``s_k = <grad loss(params), directions[k]>``.

    No graph is recorded, except of operations on closed-over tensors that require grad (an exact head): the value
    carries autograd's graph of those.

    Args:
        loss: Gives a scalar for the weights; runs on dual numbers.
        params: The weights, each of any shape and a floating-point dtype.
        directions: K mappings of names to tensors shaped like those of ``params``; a name left out does not move.

    Returns:
        The loss, a scalar, and the slopes, shape (K,).

    Raises:
        ModelError: If the loss lost its dependence on the weights (under ``no_grad`` or by ``detach``), is no scalar,
            or a direction does not fit the weights.

    Example:
        >>> value, slopes = jvp(lambda p: (p["w"] ** 2).sum(), {"w": torch.tensor([3.0])}, [{"w": torch.ones(1)}])
        >>> value.item(), slopes.tolist()
        (9.0, [6.0])
    """

    def scalar(params: Params) -> Tensor:
        value = loss(params)
        if value.numel() != 1:
            raise ModelError(f"the loss must be a scalar, it has shape {tuple(value.shape)}")
        return value.reshape(())

    value, slopes = _pushed(scalar, params, directions)
    return value, torch.stack(slopes)


def row_slopes(
    losses: Callable[[Params], Tensor], params: Params, directions: Sequence[Params]
) -> tuple[Tensor, Tensor]:
    """Compute the losses of B examples and the slopes of each, shape (B, K), in one pass; see ``jvp``."""

    def rows(params: Params) -> Tensor:
        values = losses(params)
        if values.dim() != 1:
            raise ModelError(f"the examples' losses must have shape (B,), they have {tuple(values.shape)}")
        return values

    values, slopes = _pushed(rows, params, directions)
    return values, torch.stack(slopes, dim=1)


def _pushed(
    losses: Callable[[Params], Tensor], params: Params, directions: Sequence[Params]
) -> tuple[Tensor, list[Tensor]]:
    moved = _duals(params, directions)
    with track_fallbacks() as report, torch.inference_mode(False), torch.enable_grad(), forward_pass():
        value = losses({**params, **moved})
        if value.is_complex():
            raise ModelError("the loss must be a real number, it is complex")
        if isinstance(value, Dual):
            return value.primal, list(value.tangents)
    if report.dropped:
        raise ModelError(
            f"the loss does not depend on the weights: the derivative was stopped by {dict(report.dropped)}"
        )
    return value, [torch.zeros_like(value)] * len(directions)


def _duals(params: Params, directions: Sequence[Params]) -> dict[str, Dual]:
    if not directions:
        raise ModelError("a slope needs a direction, none was given")
    moved = dict.fromkeys(name for direction in directions for name in direction)
    duals = {}
    for name in moved:
        if name not in params:
            raise ModelError(f"a direction names {name!r}, which is no weight. {nearest(name, params)}")
        value = params[name].detach()
        tangents = [
            direction[name] if name in direction else torch.zeros_like(value) for direction in directions
        ]
        shapes = {tuple(t.shape) for t in tangents}
        if shapes != {tuple(value.shape)}:
            raise ModelError(
                f"the directions of {name!r} have shapes {shapes}, the weight {tuple(value.shape)}"
            )
        duals[name] = Dual(value, (t.detach().to(value) for t in tangents))
    return duals


def call(module: nn.Module, params: Params, *args: Any, **kwargs: Any) -> Any:
    """Run a module with the named parameters replaced; the module itself stays as it is.

    Parameters that are not named are constants: no gradient flows to them. Calls on one module wait for each other,
    so two threads may share it.

    Args:
        module: Any module.
        params: Replacements, plain or dual, under the names of ``module.named_parameters()``.
        *args: Arguments of the module.
        **kwargs: Arguments of the module.

    Returns:
        What the module returns.

    Raises:
        ModelError: If the module has no parameter of a given name.
    """
    own = dict(module.named_parameters())
    unknown = params.keys() - own.keys()
    if unknown:
        raise ModelError(f"the model has no weight {min(unknown)!r}. {nearest(min(unknown), own)}")
    frozen = {
        name: value.detach() for name, value in own.items() if value.requires_grad and name not in params
    }
    with _lock(module):
        return torch.func.functional_call(module, {**frozen, **params}, args, kwargs)


def _lock(module: nn.Module) -> threading.RLock:
    with _locks_lock:
        return _locks.setdefault(module, threading.RLock())
