"""One training step of each method; the rivals are plain PyTorch implementations, independent of Spry's engine."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from spry.core.keys import Key
from spry.core.params import Params, dot, tree_map
from spry.estimators.blocks import Blocks
from spry.estimators.carry import Guess
from spry.estimators.residual import BlocksPerStep, residual
from spry.forward import jvp
from spry.profile.case import MeasuredMethod
from spry.profile.mesp import projections_recomputed

Inputs = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model with a batch, ready to be stepped.

    Args:
        model: PEFT-wrapped, in evaluation mode; only the slice's weights require grad.
        parts: Micro-batches and their shares of the mean loss.
        loss: The loss of a micro-batch as a function of the trained weights, as ``spry`` runs it.
        plain: The loss of a micro-batch with the model's own weights, as the rivals run it.
        blocks: The model's residual blocks, for the methods that need them.
    """

    model: nn.Module
    parts: Sequence[tuple[float, Inputs]]
    loss: Callable[[Params, Inputs], Tensor]
    plain: Callable[[Inputs], Tensor]
    params: Params
    directions: Sequence[Params]
    blocks: Blocks | None = None


@dataclass(frozen=True, kw_only=True)
class BatchLoss:
    """A subject's loss as estimators take it: the parts' losses, each times its share."""

    subject: Subject
    parts: Sequence[tuple[float, Inputs]]

    def __call__(self, params: Params, *, checkpoint: bool = False) -> Tensor:
        losses = [share * self.subject.loss(params, batch) for share, batch in self.parts]
        return sum(losses[1:], start=losses[0])

    @property
    def blocks(self) -> Blocks:
        assert self.subject.blocks is not None  # looked up for the methods that need them
        return self.subject.blocks

    @property
    def shape(self) -> tuple[int, int]:
        ids = self.parts[0][1]["input_ids"]
        return len(ids), ids[0].numel()

    def at_most(self, rows: int) -> BatchLoss:
        return replace(self, parts=[piece for part in self.parts for piece in divided(*part, rows)])

    def microbatches(self) -> Sequence[tuple[float, BatchLoss]]:
        return [(share, replace(self, parts=[(1.0, batch)])) for share, batch in self.parts]


def divided(share: float, batch: Inputs, rows: int) -> list[tuple[float, Inputs]]:
    """Cut a batch, whose rows count alike, into micro-batches, each with its part of the batch's share."""
    count = len(batch["input_ids"])
    return [
        (
            share * min(rows, count - start) / count,
            {name: value[start : start + rows] for name, value in batch.items()},
        )
        for start in range(0, count, rows)
    ]


def inference_step(subject: Subject) -> Tensor | None:
    with torch.no_grad():
        for _, batch in subject.parts:
            subject.plain(batch)


def spry_step(subject: Subject) -> Tensor:
    """Measure the slopes by the forward engine and multiply them back onto the directions."""
    slopes = torch.zeros(len(subject.directions), dtype=torch.float64)
    for share, batch in subject.parts:
        _, measured = jvp(lambda p, batch=batch: subject.loss(p, batch), subject.params, subject.directions)
        slopes += share * measured.detach().double().cpu()
    for slope, direction in zip(slopes.tolist(), subject.directions, strict=True):
        tree_map(lambda v, slope=slope: slope * v, direction)
    return slopes


def forward_ad_step(subject: Subject) -> Tensor:
    """Measure the slopes by PyTorch's own forward mode over the whole model, one direction at a time.

    PyTorch has no forward-mode rule for its fused attention, so the model runs with eager attention.
    """
    slopes = torch.zeros(len(subject.directions), dtype=torch.float64)
    params = dict(tree_map(torch.Tensor.detach, subject.params))
    with with_attention(subject.model, "eager"), torch.no_grad():
        for share, batch in subject.parts:

            def loss(weights: dict[str, Tensor], batch: Inputs = batch) -> Tensor:
                return subject.loss(weights, batch)

            for k, direction in enumerate(subject.directions):
                slopes[k] += share * torch.func.jvp(loss, (params,), (dict(direction),))[1].double().cpu()
    return slopes


def fedmezo_step(subject: Subject, h: float = 1e-3) -> Tensor:
    """Measure the slopes by central differences of step h, moving the weights in place and back."""
    slopes = torch.zeros(len(subject.directions), dtype=torch.float64)
    with torch.no_grad():
        for k, direction in enumerate(subject.directions):
            for sign, back in ((h, 0.0), (-2 * h, h)):
                _move(subject.params, direction, sign)
                for share, batch in subject.parts:
                    loss = subject.plain(batch).double().cpu()
                    slopes[k] += share * loss * (1 if sign > 0 else -1) / (2 * h)
                _move(subject.params, direction, back)
    return slopes


def residual_step(
    subject: Subject, guess: Guess = "identity", blocks_per_step: BlocksPerStep = "all"
) -> Tensor | None:
    """Compute the residual guess of the gradient and leave it in the weights' ``grad``."""
    params = tree_map(torch.Tensor.detach, subject.params)
    loss = BatchLoss(subject=subject, parts=subject.parts)
    found = residual(guess, blocks_per_step)(loss, params, Key(0)).gradient
    for name, weight in subject.params.items():
        weight.grad = found.get(name)


def backprop_step(subject: Subject) -> Tensor | None:
    """Compute the gradient by reverse mode and leave it in the weights' ``grad``."""
    for weight in subject.params.values():
        weight.grad = None
    for share, batch in subject.parts:
        (share * subject.plain(batch)).backward()


def checkpointed_step(subject: Subject) -> Tensor | None:
    """Compute the gradient by reverse mode, keeping only each layer's input and running the layer again."""
    with with_checkpointing(subject.model):
        backprop_step(subject)


def mesp_step(subject: Subject) -> Tensor | None:
    """Compute the gradient as ``checkpointed_step`` does, with LoRA's projections computed again instead of kept."""
    with projections_recomputed(subject.model):
        checkpointed_step(subject)


Step = Callable[[Subject], Tensor | None]
"""Runs one step and returns the slopes, shape (K,), or None where the method has none."""

STEP_BY_METHOD: Mapping[MeasuredMethod, Step] = {
    "inference": inference_step,
    "spry": spry_step,
    "residual": residual_step,
    "residual-2-blocks": partial(residual_step, blocks_per_step=2),
    "residual-full": partial(residual_step, guess="full"),
    "backprop": backprop_step,
    "backprop+checkpointing": checkpointed_step,
    "mesp": mesp_step,
    "fedmezo": fedmezo_step,
    "forward-ad": forward_ad_step,
}


def exact_slopes(subject: Subject) -> Tensor:
    """Compute the slopes ``<g, v_k>`` from autograd's gradient, shape (K,); the weights' ``grad`` is written."""
    checkpointed_step(subject)
    gradient = {name: cast(Tensor, weight.grad) for name, weight in subject.params.items()}
    return torch.tensor([dot(gradient, direction) for direction in subject.directions], dtype=torch.float64)


@contextmanager
def with_attention(model: nn.Module, kind: str) -> Generator[None]:
    base = cast(Any, model).get_base_model()
    before = base.config._attn_implementation
    base.set_attn_implementation(kind)
    try:
        yield
    finally:
        base.set_attn_implementation(before)


@contextmanager
def with_checkpointing(model: nn.Module) -> Generator[None]:
    """Checkpoint the activations of a model without dropout; transformers does it in training mode only."""
    base = cast(Any, model).get_base_model()
    base.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    try:
        yield
    finally:
        model.eval()
        base.gradient_checkpointing_disable()


def _move(params: Params, direction: Params, step: float) -> None:
    for name, weight in params.items():
        weight.data.add_(direction[name], alpha=step)
