"""A layer's call, a few examples at a time: which of its arguments have an entry for each example.

This is found by calling the layer. An argument's size alone tells little: a text may have as many tokens as a batch
has examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_leaves, tree_unflatten

from spry.forward.chunking import most_examples
from spry.forward.dropout import Masks
from spry.forward.recall import Recall, hidden_from, hidden_of

Layout = Mapping[str, bool]
"""``{place of an argument: whether its first dimension is the batch}``; where that dimension is 1, it is not known."""

PartOfCall = tuple[slice, tuple[Any, ...], dict[str, Any]]
"""Some examples, and the arguments of a call for them alone."""

LAYER_ROUNDING = 1e-4
"""How far a layer's output may be off if it computes in float32, relative to its norm; half precision has more."""


def layout_of(call: Recall, examples: int) -> Layout | None:
    """Find out how a call's arguments are cut, by making it as a whole and then one example at a time.

    Args:
        call: A call whose examples are padded differently.
        examples: How many there are, >= 2.

    Returns:
        The layout; None if the layer's examples depend on one another or do not stand in the first dimension.
    """
    leaves, _ = tree_flatten_with_path((call.args, dict(call.kwargs)))
    layout = {
        keystr(place): len(value) == examples
        for place, value in leaves
        if isinstance(value, Tensor) and value.dim() and len(value) != 1
    }
    pieces = cut(layout, call.args, call.kwargs, 1)
    hidden = hidden_of(call.args, call.kwargs)
    if hidden is None or len(hidden) != examples or len(pieces) != examples:
        return None
    output = call.again(*call.args, **call.kwargs)
    if sum(isinstance(value, Tensor) for value in tree_leaves(output)) > 1:
        return None  # of the rest nobody knows how to put it together
    whole = hidden_from(output)
    try:
        parts = torch.cat([hidden_from(call.again(*args, **kwargs)) for _, args, kwargs in pieces])
    except (RuntimeError, ValueError, IndexError):
        return None
    allowed = max(LAYER_ROUNDING, torch.finfo(whole.dtype).eps ** 0.5)
    same = parts.shape == whole.shape and bool((parts - whole).norm() <= allowed * whole.norm())
    return layout if same else None


def cut(
    layout: Layout | None, args: tuple[Any, ...], kwargs: Mapping[str, Any], most: int
) -> list[PartOfCall]:
    """Cut a call's arguments into those of calls with at most ``most`` examples, >= 1.

    It stays whole without a layout, and where an argument that was not seen before could be the examples'.
    """
    hidden = hidden_of(args, kwargs)
    assert hidden is not None  # blocks were found by it
    examples = len(hidden)
    whole = [(slice(0, examples), args, dict(kwargs))]
    if layout is None or examples <= most:
        return whole
    leaves, spec = tree_flatten_with_path((args, dict(kwargs)))
    sized = {keystr(place) for place, value in leaves if _has(value, examples)}
    if not sized <= layout.keys():
        return whole
    mine = [layout.get(keystr(place), False) and _has(value, examples) for place, value in leaves]

    def of(rows: slice) -> PartOfCall:
        values = [value[rows] if own else value for own, (_, value) in zip(mine, leaves, strict=True)]
        return rows, *tree_unflatten(values, spec)

    return [of(slice(start, min(start + most, examples))) for start in range(0, examples, most)]


def pieces(
    layout: Layout | None, args: tuple[Any, ...], kwargs: Mapping[str, Any], masks: Masks | None
) -> list[PartOfCall]:
    """Cut a call's arguments as far as the workspace asks for.

    A call with dropout stays whole: its masks are drawn for all examples at once.
    """
    hidden = hidden_of(args, kwargs)
    assert hidden is not None  # blocks were found by it
    most = most_examples(len(hidden), hidden[0, ..., 0].numel(), hidden.nbytes, hidden.device)
    return cut(layout if masks is None else None, args, kwargs, most)


def _has(value: Any, examples: int) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0 and len(value) == examples
