"""How far to move which tokens: activation directions err least if every group of tokens adds alike to the slope.

Some tokens matter to a loss far more than others: the first one of a classifier that pools it, the last of a decoder.
If the outputs at token t are moved by ``a_t u_t`` and the trace is ``sum_t u_t x_t' / a_t``, the estimate stays
unbiased, and its error is proportional to ``(sum_t a_t^2 |g_t|^2) (sum_t |x_t|^2 / a_t^2)``, which is least for
``a_t^2 = |x_t| / |g_t|``. How the gradients ``g_t`` are spread over maps and places in a text depends on the model far
more than on the text, so it is measured once, on random text, before any client is asked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

import torch
from torch import Tensor

from spry.core.keys import Key
from spry.core.params import Params
from spry.estimators.observe import observe
from spry.forward.loss import Loss

PLACES = ("first", "last", "between")
"""Where a token stands in its text; each place has an amplitude of its own."""

Amplitudes = Mapping[str, Sequence[float]]
"""Names of tapped weights mapped to one amplitude for each of ``PLACES``, all above 0."""

_NUDGE = 1e-2
_RANGE = 10.0  # amplitudes further than this from their median would lean too much on one measurement


def awake(params: Params, key: Key) -> dict[str, Tensor]:
    """Move the weights that are zero a little, for LoRA's A has no gradient while B is zero.

    Args:
        params: Weights, where training starts.
        key: Where signs come from.

    Returns:
        All of them, none of them zero.
    """
    return {n: w if w.any() else _NUDGE * key.signs(n, tuple(w.shape), like=w) for n, w in params.items()}


def places(mask: Tensor) -> Tensor:
    """Say where each token stands.

    Args:
        mask: 1 for tokens and 0 for padding, shape (B, T).

    Returns:
        One-hot over ``PLACES``, shape (B, T, 3), zero for padding; a single token is the first.
    """
    mask = mask.bool()
    before, after = mask.cumsum(1), mask.flip(1).cumsum(1).flip(1)
    first = mask & (before == 1)
    last = mask & (after == 1) & ~first
    return torch.stack([first, last, mask & ~first & ~last], dim=-1)


def spread(amplitudes: Amplitudes, mask: Tensor) -> dict[str, Tensor]:
    """Give each token its amplitude.

    Args:
        amplitudes: By name and place.
        mask: 1 for tokens and 0 for padding, shape (B, T).

    Returns:
        Shape (B, T) by name; 1 for padding.
    """
    where = places(mask)
    index = torch.where(where.any(-1), where.int().argmax(-1), len(PLACES))
    return {name: torch.tensor([*values, 1.0]).to(mask.device)[index] for name, values in amplitudes.items()}


def calibrate(loss: Loss, params: Params, taps: Sequence[str], key: Key) -> dict[str, list[float]]:
    """Measure the amplitudes for which activation directions err least, ``a^2 = |x| / |g|`` of each place.

    Args:
        loss: The loss of a batch of texts, which may be random, as may their labels; one part's tape is kept at a time.
        params: All trainable weights, where training starts; those that are zero and not tapped are nudged.
        taps: Names of the weights that will be tapped.
        key: Where the nudges' signs come from.

    Returns:
        Amplitudes, of which the median is 1; equal ones where there are no sequences or no gradients.
    """
    started = {**awake(params, key.fold("awake")), **{name: params[name] for name in taps}}
    inputs, gradients = ({name: torch.zeros(len(PLACES)) for name in taps} for _ in range(2))
    for _, part in loss.parts():
        if part.mask is None:
            break
        where = places(part.mask).float()
        for name, uses in observe(part, started, taps).items():
            for use in (use for use in uses if use.inputs.shape[1] == where.shape[1]):
                inputs[name] += _energies(use.inputs, where)
                gradients[name] += _energies(use.gradients, where)
    ratios = {
        name: [_ratio(x, g) for x, g in zip(inputs[name].tolist(), gradients[name].tolist(), strict=True)]
        for name in taps
    }
    known = [r for values in ratios.values() for r in values if 0 < r < math.inf]
    middle = median(known) if known else math.inf
    return {name: [_bounded(r / middle) for r in values] for name, values in ratios.items()}


def _energies(tokens: Tensor, where: Tensor) -> Tensor:
    """Sum the squares of the tokens of each place, shape (3,)."""
    return tokens.float().square().sum(-1).cpu().flatten() @ where.flatten(0, 1).cpu()


def _bounded(square: float) -> float:
    """The root, within bounds; 1 where nothing was measured."""
    return min(max(square**0.5, 1 / _RANGE), _RANGE) if square > 0 else 1.0


def _ratio(inputs: float, gradients: float) -> float:
    """``|x| / |g|`` from their squares; 0 without tokens, infinite without gradients."""
    return 0.0 if inputs == 0 else math.inf if gradients == 0 else (inputs / gradients) ** 0.5
