"""Finds the maps above a classifier's last attention, and those of the whole last block, which that attention is in.

The head is read from one position, the first or the last. What follows the last attention works on each position by
itself, so a gradient of these maps needs the activations of one position of each text: the exact gradient takes little
memory, as that of the head itself does. The last attention has one query of each text, so that gradients of its own
maps need keys, values and what they are computed from, and nothing else of all positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spry.tasks.models import Backbone
from spry.tasks.targets import linear_names

_TEXTS, _TOKENS = 2, 5


@torch.inference_mode()
def top_maps(backbone: Backbone) -> list[str]:
    """Find the maps, by disturbing the outputs of one after the other, from the end of the model on.

    Args:
        backbone: The model, not adapted.

    Returns:
        Names in the model, in the order of their calls; none if the head is read from all positions.
    """
    ids = _tokens(backbone)
    linears = linear_names(backbone.model)
    called, logits = _called(backbone.model, linears, ids)
    found: list[str] = []
    for name in reversed([n for n in called if n.startswith(f"{backbone.model.base_model_prefix}.")]):

        def still(places: Sequence[int], module: nn.Module = linears[name]) -> bool:
            return torch.allclose(_disturbed(backbone.model, module, ids, places), logits, atol=1e-6)

        if not any(still(rest) for rest in (range(1, _TOKENS), range(_TOKENS - 1))):
            break
        if not still(range(_TOKENS)):  # else the logits do not depend on it at all
            found.append(name)
    return found[::-1]


def last_block_maps(backbone: Backbone) -> list[str]:
    """Find the maps of the last block, and those above it.

    Args:
        backbone: The model, not adapted.

    Returns:
        Names in the model, in its order; none if the head is read from all positions, or if the maps above the last
        attention are in no list of blocks, as in models whose blocks share weights.
    """
    top = top_maps(backbone)
    lists = [name for name, module in backbone.model.named_modules() if isinstance(module, nn.ModuleList)]
    blocks = [block for block in (_item(name, lists) for name in top) if block is not None]
    if not blocks:
        return []
    return [name for name in linear_names(backbone.model) if name in top or name.startswith(f"{blocks[0]}.")]


def _item(name: str, lists: Sequence[str]) -> str | None:
    """The item of an outermost list of modules that a module lies in."""
    inside = [found for found in lists if name.startswith(f"{found}.")]
    return f"{inside[0]}.{name.removeprefix(f'{inside[0]}.').partition('.')[0]}" if inside else None


def _tokens(backbone: Backbone) -> Tensor:
    special = set(backbone.tokenizer.all_special_ids)
    plain = (i for i in range(len(backbone.tokenizer)) if i not in special)
    ids = torch.tensor([next(plain) for _ in range(_TEXTS * _TOKENS)])
    return ids.view(_TEXTS, _TOKENS).to(backbone.model.device)


def _called(model: Any, linears: Mapping[str, nn.Module], ids: Tensor) -> tuple[list[str], Tensor]:
    """Run the model; also names its maps in the order of their calls: queries may be defined after values."""
    called: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, module in linears.items()
    ]
    try:
        return called, model(input_ids=ids).logits
    finally:
        for handle in handles:
            handle.remove()


def _disturbed(model: nn.Module, module: nn.Module, ids: Tensor, places: Sequence[int]) -> Tensor:
    """The logits if the outputs of a module are doubled at some positions, plus 1; a pooled output is left alone."""

    def disturb(_: nn.Module, args: Any, output: Tensor) -> Tensor:
        if output.dim() == 3:
            output = output.clone()
            output[:, list(places)] = 2 * output[:, list(places)] + 1
            return output
        return output if len(places) < _TOKENS else 2 * output + 1

    handle = module.register_forward_hook(disturb)
    try:
        return model(input_ids=ids).logits
    finally:
        handle.remove()
