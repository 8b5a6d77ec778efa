"""Finds the maps above a classifier's last attention: those whose outputs matter at one position of each text only.

The head is read from one position, the first or the last. What follows the last attention works on each position by
itself, so a gradient of these maps needs the activations of one position of each text: the exact gradient takes little
memory, as that of the head itself does.
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
