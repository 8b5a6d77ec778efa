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

from spry.forward.hooks import hooked
from spry.models.load import Backbone
from spry.models.targets import linear_names

_TEXTS, _TOKENS = 2, 5


def last_block_maps(backbone: Backbone) -> list[str]:
    """Find the maps of the last block and those above it, in the model's order.

    There are none if the head is read from all positions, if the maps above the last attention are in no list of
    blocks (as in models whose blocks share weights), or if the model does not run.
    """
    top = _maps_above_last_attention(backbone)
    lists = [name for name, module in backbone.model.named_modules() if isinstance(module, nn.ModuleList)]
    blocks = [block for block in (_item(name, lists) for name in top) if block is not None]
    if not blocks:
        return []
    return [name for name in linear_names(backbone.model) if name in top or name.startswith(f"{blocks[0]}.")]


@torch.inference_mode()
def maps_of_last_block(backbone: Backbone) -> list[str]:
    """Find the maps of the block that is called last, in the model's order; all positions of it may be read.

    So it is for language models: the exact gradient keeps the activations of one block, as the engine's workspace is of
    one. There are none if the model does not run, or its layers are in no list.
    """
    model, ids = backbone.model, readable_tokens(backbone)
    if ids is None:
        return []
    linears = linear_names(model)
    lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    items = [_item(name, lists) for name in _called(model, linears, ids)[0]]
    last = next((item for item in reversed(items) if item is not None), None)
    return [name for name in linears if name.startswith(f"{last}.")]


def _item(name: str, lists: Sequence[str]) -> str | None:
    """The item of an outermost list of modules that a module lies in."""
    inside = [found for found in lists if name.startswith(f"{found}.")]
    return f"{inside[0]}.{name.removeprefix(f'{inside[0]}.').partition('.')[0]}" if inside else None


@torch.inference_mode()
def _maps_above_last_attention(backbone: Backbone) -> list[str]:
    """Disturb the outputs of one map after the other, from the end of the model on, and see which positions count."""
    model, ids = backbone.model, readable_tokens(backbone)
    if ids is None:
        return []
    linears = linear_names(model)
    called, logits = _called(model, linears, ids)
    rounding = 16 * torch.finfo(logits.dtype).eps * float(logits.abs().max())
    found: list[str] = []
    for name in reversed([n for n in called if n.startswith(f"{model.base_model_prefix}.")]):

        def still(positions: Sequence[int], module: nn.Module = linears[name]) -> bool:
            return float((_disturbed(model, module, ids, positions) - logits).abs().max()) <= rounding

        if not any(still(rest) for rest in (range(1, _TOKENS), range(_TOKENS - 1))):
            break
        if not still(range(_TOKENS)):  # else the logits do not depend on it at all
            found.append(name)
    return found[::-1]


def readable_tokens(backbone: Backbone) -> Tensor | None:
    """Texts that the model takes: plain words, or, for models that pool there, an end token after them."""
    tokenizer, special = backbone.tokenizer, set(backbone.tokenizer.all_special_ids)
    plain = [i for i in range(len(tokenizer)) if i not in special][: _TEXTS * _TOKENS]
    if len(plain) < _TEXTS * _TOKENS:
        return None
    words = torch.tensor(plain).view(_TEXTS, _TOKENS).to(backbone.model.device)
    tries = [words]
    if tokenizer.eos_token_id is not None:
        tries.append(torch.cat([words[:, :-1], torch.full_like(words[:, :1], tokenizer.eos_token_id)], 1))
    for ids in tries:
        try:
            backbone.model(input_ids=ids)
        except Exception:  # models refuse texts in many ways; the next one may do
            continue
        return ids
    return None


def _called(model: Any, linears: Mapping[str, nn.Module], ids: Tensor) -> tuple[list[str], Tensor]:
    """Run the model; also names its maps in the order of their calls: queries may be defined after values."""
    called: list[str] = []
    with hooked(
        module.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, module in linears.items()
    ):
        return called, _scores(model(input_ids=ids))


def _scores(output: Any) -> Tensor:
    """All scores of a model, whatever they are called: readers have those of an answer's start and of its end."""
    return torch.cat([value for name, value in output.items() if name.endswith("logits")], dim=-1)


def _disturbed(model: nn.Module, module: nn.Module, ids: Tensor, positions: Sequence[int]) -> Tensor:
    """The logits if the outputs of a module are doubled at some positions, plus 1."""

    def disturb(_: nn.Module, args: Any, output: Tensor) -> Tensor:
        output = output.clone()
        for index in _rows_of(output, positions):
            output[index] = 2 * output[index] + 1
        return output

    with module.register_forward_hook(disturb):
        return _scores(model(input_ids=ids))


def _rows_of(output: Tensor, positions: Sequence[int]) -> list[Any]:
    """How to index some positions of a map's output; all of it where the layout is not known, as nothing is sure then.

    Models put the batch first, as most do, or the positions, or both in one dimension; some fill up to a window.
    """
    chosen, sizes = list(positions), output.shape[:-1]
    if sizes.numel() == _TEXTS:  # pooled: one row a text, which is read wherever it comes from
        return [...] if len(chosen) == _TOKENS else []
    if sizes == (_TEXTS * _TOKENS,):
        return [[text * _TOKENS + at for at in chosen] for text in range(_TEXTS)]
    if len(sizes) == 2 and sizes[0] == _TEXTS and sizes[1] >= _TOKENS:
        return [(slice(None), chosen)]
    if len(sizes) == 2 and sizes[1] == _TEXTS and sizes[0] >= _TOKENS:
        return [(chosen,)]
    return [...]
