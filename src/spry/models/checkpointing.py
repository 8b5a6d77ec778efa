"""Activation checkpointing that works in evaluation mode and with functionally replaced weights.

transformers checkpoints its layers only in training mode, which would also turn dropout on; and a plain
recompute would run after the replaced weights were taken out again, with the model's own. So each layer
remembers what it was called with: its weights, its mode and its place in the sequence of dropout masks.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from types import MethodType
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from spry.forward.recall import Recall

_on: ContextVar[bool] = ContextVar("spry_recompute", default=False)


@contextmanager
def recomputing() -> Generator[None]:
    """Make prepared layers keep only their inputs for the backward pass, in this thread.

    The backward pass puts weights into the layers again, without a lock: run no other pass of the same model
    beside it.
    """
    token = _on.set(True)
    try:
        yield
    finally:
        _on.reset(token)


def prepare(model: nn.Module) -> int:
    """Let the repeated layers of a transformer obey ``recomputing``, and count them; nothing else changes.

    They are transformers' checkpointable layers, or stand in a ``ModuleList``.
    """
    layers = repeated_layers(model)
    for layer in layers:
        layer.forward = MethodType(_forward, layer)
    return len(layers)


def repeated_layers(model: nn.Module) -> list[nn.Module]:
    """List transformers' checkpointable layers, or where there are none what stands in a ``ModuleList``."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers: list[nn.Module] = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
    return layers or [
        layer for child in model.modules() if isinstance(child, nn.ModuleList) for layer in child
    ]


def _forward(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
    if not _on.get():
        return type(layer).forward(layer, *args, **kwargs)
    call = Recall.of(layer, (), {})  # the arguments are autograd's to keep, and to free

    def run(*args: Any, **kwargs: Any) -> Any:
        token = _on.set(False)
        try:
            return call.again(*args, **kwargs)
        finally:
            _on.reset(token)

    def contexts() -> tuple[Any, Any]:
        return nullcontext(), call.masked()

    return checkpoint(
        run, *args, use_reentrant=False, preserve_rng_state=False, context_fn=contexts, **kwargs
    )
