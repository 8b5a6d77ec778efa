"""Finds the residual blocks of a model by what it does, whatever their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from spry.core.errors import ModelError
from spry.estimators.blocks import Blocks
from spry.estimators.carry import norm
from spry.forward.examples import layout_of
from spry.forward.hooks import hooked
from spry.forward.recall import Recall, hidden_from, hidden_of
from spry.models.last_block import readable_tokens
from spry.models.load import Backbone
from spry.models.targets import linear_names

REMEDY = "Set method.name = 'spry' or another method that needs none, or choose another model."


def find_blocks(backbone: Backbone, module: Any) -> Blocks:
    """Find the blocks of an adapted model: calls of one list's items, each with what the one before gave.

    An item that is called several times, as ALBERT's is, is as many blocks.

    Each must be residual: its output depends on its input when all its linear maps give what they gave.

    Args:
        backbone: The model and its tokenizer, for a text to try the model with.
        module: The ``PeftModel`` around it.

    Raises:
        ModelError: If there are no such blocks; it names the reason.
    """
    ids = readable_tokens(backbone)
    if ids is None:
        raise ModelError(f"{backbone.name}: no text was found that the model reads. {REMEDY}")
    blocks = blocks_of_module(backbone.name, module, ids)
    if backbone.stream is not None:  # a tape would hold all weights
        return replace(blocks, state_bytes=0)
    return blocks


def blocks_of_module(name: str, module: Any, ids: Tensor) -> Blocks:
    """Find the blocks of a ``PeftModel`` called ``name`` as ``find_blocks`` does, by tokens that it reads: (B, T)."""
    lists = [(path, child) for path, child in module.named_modules() if isinstance(child, nn.ModuleList)]
    reasons = []
    for path, children in lists:
        if any(path.startswith(f"{other}.") for other, _ in lists):
            continue
        calls = _calls(module.get_base_model(), children, ids)
        if len(calls) < 2:
            continue
        reason = _why_no_chain(calls, children)
        if reason is None:
            blocks = _described(path, children, [call for call, _ in calls], len(ids))
            reason = _why_not_residual(blocks, [call for call, _ in calls])
            if reason is None:
                return blocks
        reasons.append(f"{path.rpartition('.')[2]}: {reason}")
    told = "; ".join(reasons) or "it has no list whose items are called twice or more"
    raise ModelError(
        f"{name} has no residual blocks that a guess could be carried through ({told}). {REMEDY}"
    )


Calls = list[tuple[Recall, Any]]
"""The calls of a list's items in their order, with what they gave."""


@torch.no_grad()
def _calls(model: Any, children: nn.ModuleList, ids: Tensor) -> Calls:
    calls: Calls = []
    mask = torch.ones_like(ids)
    mask[-1, -1] = 0  # one text is padded, so that blocks are called with a mask

    def note(child: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        calls.append((Recall.of(child, args, kwargs), output))

    with hooked(child.register_forward_hook(note, with_kwargs=True) for child in children):
        model(input_ids=ids, attention_mask=mask)
    return calls


def _why_no_chain(calls: Calls, children: nn.ModuleList) -> str | None:
    if {call.layer for call, _ in calls} != set(children):
        return "not all of its items are called"
    for (_, output), (call, _) in pairwise(calls):
        before = hidden_from(output)
        hidden = hidden_of(call.args, call.kwargs)
        if hidden is None or not isinstance(before, Tensor) or hidden.shape != before.shape:
            return "its items pass on no hidden state of one shape"
        if not torch.equal(hidden, before):
            return "something is computed between its items"
    return None


def _why_not_residual(blocks: Blocks, calls: Sequence[Recall]) -> str | None:
    for call, maps in zip(calls, blocks.maps, strict=True):
        hidden = hidden_of(call.args, call.kwargs)
        assert hidden is not None  # it is a chain
        try:
            norm(call, maps, {}, torch.ones_like(hidden), True)
        except RuntimeError:
            return f"{type(call.layer).__name__} passes nothing on beside its linear maps"
    return None


@torch.no_grad()
def _described(name: str, children: nn.ModuleList, calls: Sequence[Recall], examples: int) -> Blocks:
    called = [call.layer for call in calls]
    hidden = hidden_of(calls[0].args, calls[0].kwargs)
    assert hidden is not None  # it is a chain
    first, *others = [layout_of(call, examples) for call in calls]
    prefixes = {child: f"{name}.{index}." for index, child in enumerate(children)}
    maps = {child: _outermost_maps(child) for child in children}
    return Blocks(
        modules=tuple(called),
        prefixes=tuple(prefixes[child] for child in called),
        maps=tuple(maps[child] for child in called),
        layout=first if all(layout == first for layout in others) else None,
        state_bytes=hidden.shape[-1] * hidden.element_size(),
    )


def _outermost_maps(block: nn.Module) -> tuple[nn.Module, ...]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    linear = linear_names(block)
    adapted = {
        name: child
        for name, child in block.named_modules()
        if isinstance(child, BaseTunerLayer) and any(inner.startswith(f"{name}.") for inner in linear)
    }
    maps = {**adapted, **linear}
    return tuple(
        child for name, child in maps.items() if not any(name.startswith(f"{other}.") for other in maps)
    )
