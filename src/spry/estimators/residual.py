"""The residual guess: exact gradients at the top, carried down the residual stream to every block below.

With ``D = dLoss/dh_{L-1}``, the exact gradient at the input of the last block, block l gets the exact vector-Jacobian
product of its own weights with a guess ``d_{l+1}`` of the gradient at its output:

    g_l = (d h_{l+1} / d w_l)' d_{l+1},   d_{L-1} = D,   d_l = R_l' d_{l+1}

where ``R_l`` is the part of the block's Jacobian that is kept: 1 (identity), that of its norms (norm), all but
attention (mlp), or all of it (full). The last block and the one below it are exact whatever is kept; there is nothing
random in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from spry.core.keys import Key
from spry.core.params import Params, leaf, tree_map
from spry.estimators.blocks import Blocks, blocks_of
from spry.estimators.carry import CARRIES, Carry, Guess
from spry.estimators.estimate import Estimate, Estimator
from spry.estimators.loss import Loss
from spry.estimators.passes import Top, added, exact_top, second_pass
from spry.estimators.tape import Tape, tape_of
from spry.forward.examples import pieces

MOST_KEPT = 4
"""Blocks whose inputs are kept for their products; of more, a second pass makes them anew. One block's workspace is
several times as large as four inputs."""


BlocksPerStep = int | Literal["all", "drawn"]


def residual(guess: Guess = "identity", blocks_per_step: BlocksPerStep = "all") -> Estimator:
    """Compute exact gradients of the last block and what is above it, and the residual guess below.

    ``identity`` holds two hidden states and one block's workspace whatever the depth: a step of more than four blocks
    runs them a second time; one of up to four saves that pass and keeps their inputs. The others hold a hidden state of
    every block from the lowest one on; ``full`` keeps all of as many blocks and rows as ``tape_of`` allows, which
    are then computed once.

    Args:
        guess: What of each block's Jacobian is kept.
        blocks_per_step: Blocks under the last one that get a gradient, drawn for each step from those whose weights are
            asked for, >= 0, or ``drawn``: from a drawn one on; the gradient then lacks the others' names, or their part
            of a shared weight's sum.

    Returns:
        The estimator; it draws only which blocks a step is for.
    """

    def estimate(loss: Loss, params: Params, key: Key) -> Estimate:
        blocks = blocks_of(loss)
        owned = _drawn(blocks.below_last(params), blocks_per_step, key)
        chosen = {name for names in owned.values() for name in names} | blocks.from_last(params)
        asked = {name: value for name, value in params.items() if name in chosen}
        sums: Params = tree_map(torch.zeros_like, asked)
        device = next((weight.device for weight in params.values()), torch.device("cpu"))
        whole = guess == "full"
        tape = tape_of(loss, blocks, owned, device) if whole else Tape(loss, len(blocks) - 1)
        value = 0.0
        for share, part in tape.loss.microbatches():
            part_value, gradients = _estimate(part, blocks, params, asked, owned, guess, tape.first)
            for name, gradient in gradients.items():
                sums[name].add_(gradient, alpha=share)
            value += share * part_value
        return Estimate(value=value, gradient=sums)

    return estimate


Owned = Mapping[int, Sequence[str]]
"""Names of weights by the block that they lie in, of blocks under the last one, the lowest first."""


def _drawn(owned: Owned, count: BlocksPerStep, key: Key) -> Owned:
    if count == "all" or not owned or (count != "drawn" and count >= len(owned)):
        return owned
    generator = key.generator("blocks")
    if count == "drawn":
        drawn = range(int(generator.integers(len(owned))), len(owned))
    else:
        drawn = generator.choice(len(owned), size=count, replace=False)
    return {index: owned[index] for place, index in enumerate(owned) if place in drawn}


def _estimate(
    loss: Loss, blocks: Blocks, params: Params, asked: Params, owned: Owned, guess: Guess, first: int
) -> tuple[float, Params]:
    """The loss of one micro-batch and its gradients; weights that are not asked for are constants.

    Blocks from ``first`` on are exact by a tape, those below by what is carried down to them.
    """
    owned = {index: names for index, names in owned.items() if index < first}
    if guess != "identity":
        kept = range(min(owned, default=first), first)
    else:
        kept = list(owned) if len(owned) <= MOST_KEPT else []
    on_tape = blocks.from_block(asked, first)
    still = {name: value for name, value in params.items() if name not in on_tape}
    above = {name: asked[name] for name in asked if name in on_tape}
    top = exact_top(loss, blocks, above, still, kept=kept, guessing=bool(owned), first=first)
    moving = {name: leaf(params[name]) for names in owned.values() for name in names}
    leaves = {index: {name: moving[name] for name in names} for index, names in owned.items()}
    if not owned:
        found: Params = {}
    elif kept:
        found = _from_calls(blocks, top, leaves, CARRIES[guess])
    else:
        guess_at_top = top.guess
        assert guess_at_top is not None  # it was wanted
        found = second_pass(
            loss, blocks, {**params, **moving}, leaves, lambda index, out, rows: guess_at_top[rows]
        )
    return top.value, added(top.gradients, found)


def _from_calls(blocks: Blocks, top: Top, leaves: Mapping[int, Params], carry: Carry) -> dict[str, Tensor]:
    """Go down block by block, from kept inputs."""
    found: dict[str, Tensor] = {}
    d, lowest = top.guess, min(leaves)
    assert d is not None  # it was wanted
    for index in sorted(top.calls, reverse=True):
        prefix = blocks.prefixes[index]
        own = {name.removeprefix(prefix): weight for name, weight in leaves.get(index, {}).items()}
        passed: list[Tensor] = []
        call = top.calls[index]
        for rows, args, kwargs in pieces(blocks.layout, call.args, call.kwargs, call.masks):
            some = replace(call, args=args, kwargs=kwargs)
            gradients, below = carry(some, blocks.maps[index], own, d[rows], index > lowest)
            passed.append(below)
            found = added(found, {prefix + name: gradient for name, gradient in gradients.items()})
        d = torch.cat(passed) if len(passed) > 1 else passed[0]
    return found
