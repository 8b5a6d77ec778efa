"""Activation checkpointing that works in evaluation mode and with functionally replaced weights.

transformers checkpoints its layers only in training mode, which would also turn dropout on; and a plain
recompute would run after the replaced weights were taken out again, with the model's own. So each layer
remembers what it was called with: its weights, its mode and its place in the sequence of dropout masks.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from types import MethodType
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from spry.forward.dropout import Masks
from spry.forward.recall import training


@dataclass(frozen=True)
class _Recompute:
    masks: Masks | None


_on: ContextVar[_Recompute | None] = ContextVar("spry_recompute", default=None)


@contextmanager
def recomputing(masks: Masks | None = None) -> Generator[None]:
    """Make prepared layers keep only their inputs for the backward pass, in this thread.

    The backward pass puts weights into the layers again, without a lock: run no other pass of the same model
    beside it.
    """
    token = _on.set(_Recompute(masks))
    try:
        yield
    finally:
        _on.reset(token)


def prepare(model: nn.Module) -> int:
    """Let the repeated layers of a transformer obey ``recomputing``, and count them; nothing else changes.

    They are transformers' checkpointable layers, or stand in a ``ModuleList``.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [child for child in model.modules() if isinstance(child, GradientCheckpointingLayer)]
    if not layers:
        layers = [layer for child in model.modules() if isinstance(child, nn.ModuleList) for layer in child]
    for layer in layers:
        layer.forward = MethodType(_forward, layer)
    return len(layers)


def _forward(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
    state = _on.get()
    if state is None:
        return type(layer).forward(layer, *args, **kwargs)
    # those of this call, replaced or the model's own
    weights: dict[str, Tensor] = dict(layer.named_parameters())
    mode, masks = layer.training, state.masks
    drawn = 0 if masks is None else masks.count

    def run(*args: Any, **kwargs: Any) -> Any:
        token = _on.set(None)
        try:
            with training(layer, mode):
                return functional_call(layer, weights, args, kwargs)
        finally:
            _on.reset(token)

    def contexts() -> tuple[Any, Any]:
        return nullcontext(), nullcontext() if masks is None else Masks(masks.key, drawn)

    return checkpoint(
        run, *args, use_reentrant=False, preserve_rng_state=False, context_fn=contexts, **kwargs
    )
