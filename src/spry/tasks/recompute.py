"""Activation checkpointing that works in evaluation mode and with functionally replaced weights.

transformers checkpoints its layers only in training mode, which would also turn dropout on; and a plain
recompute would run after the replaced weights were taken out again, with the model's own. So each layer
remembers the weights it was called with.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from types import MethodType
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

_on: ContextVar[bool] = ContextVar("spry_recompute", default=False)


@contextmanager
def recomputing(on: bool = True) -> Generator[None]:
    """Make prepared layers keep only their inputs for the backward pass, in this thread.

    Args:
        on: Whether to; False changes nothing.

    Yields:
        Nothing.
    """
    token = _on.set(on)
    try:
        yield
    finally:
        _on.reset(token)


def prepare(model: nn.Module) -> int:
    """Let the repeated layers of a transformer obey ``recomputing``; nothing else changes.

    Args:
        model: A model whose layers are transformers' checkpointable ones, or stand in a ``ModuleList``.

    Returns:
        How many layers were prepared.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [child for child in model.modules() if isinstance(child, GradientCheckpointingLayer)]
    if not layers:
        layers = [layer for child in model.modules() if isinstance(child, nn.ModuleList) for layer in child]
    for layer in layers:
        layer.forward = MethodType(_forward, layer)
    return len(layers)


def _forward(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
    if not _on.get():
        return type(layer).forward(layer, *args, **kwargs)
    weights: dict[str, Tensor] = dict(
        layer.named_parameters()
    )  # those of this call, replaced or the model's own

    def run(*args: Any, **kwargs: Any) -> Any:
        with recomputing(False):
            return functional_call(layer, weights, args, kwargs)

    return checkpoint(run, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)
