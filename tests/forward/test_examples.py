"""A layer's call is cut by examples only where it was seen that this changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from spry.forward.examples import cut, layout_of
from spry.forward.recall import Recall


class Block(nn.Module):
    def __init__(self, mix):
        super().__init__()
        self.mix = mix

    def forward(self, hidden, table=None, *, pair=(None, None)):
        return (hidden + self.mix(hidden, table, *pair),)


def rows_alone(hidden, table, mask, shift):
    return hidden * mask[..., None] + shift + table.sum()


def call(mix, examples=3, tokens=2, **changed):
    values = {
        "table": torch.ones(4, 5),
        "mask": torch.rand(examples, tokens),
        "shift": torch.ones(1, tokens, 5),
    }
    values |= changed
    hidden = torch.rand(examples, tokens, 5)
    args, kwargs = (hidden, values["table"]), {"pair": (values["mask"], values["shift"])}
    return Recall.of(Block(mix), args, kwargs)


def test_arguments_are_told_apart_and_cut():
    one = call(rows_alone)
    layout = layout_of(one, 3)
    assert list(layout.values()) == [True, False, True]
    parts = cut(layout, one.args, one.kwargs, 2)
    assert [part[0] for part in parts] == [slice(0, 2), slice(2, 3)]
    whole = one.again(*one.args, **one.kwargs)[0]
    torch.testing.assert_close(torch.cat([one.again(*a, **k)[0] for _, a, k in parts]), whole)


def test_a_size_that_is_the_batchs_by_chance_is_not_cut():
    """A table of as many rows as there are examples stays whole."""
    layout, other = layout_of(call(rows_alone), 3), call(rows_alone, examples=4)
    for _, args, kwargs in cut(layout, other.args, other.kwargs, 1):
        assert [args[0].shape[0], args[1].shape[0], kwargs["pair"][0].shape[0]] == [1, 4, 1]


def test_an_argument_that_was_not_seen_leaves_the_call_whole():
    layout = layout_of(call(rows_alone), 3)
    other = call(rows_alone, examples=4, shift=torch.ones(4, 2, 5))
    assert len(cut(layout, other.args, other.kwargs, 1)) == 1


@pytest.mark.parametrize(
    ("mix", "changed"),
    [
        (lambda hidden, *_: hidden.mean(0, keepdim=True).expand_as(hidden), {}),
        (lambda hidden, *_: hidden.cumsum(0), {}),
        (lambda hidden, table, *_: hidden * table[:3, :1, None], {}),
        (lambda hidden, table, mask, shift: hidden * shift, {"shift": torch.rand(6, 5).view(6, 1, 5)[:3]}),
    ],
)
def test_examples_that_depend_on_one_another_are_not_cut(mix, changed):
    """Their mean, their order, a table by their number; what follows its own example is."""
    assert (layout_of(call(mix, **changed), 3) is None) == ("shift" not in changed)


def test_a_hidden_state_with_the_positions_first_is_not_cut():
    assert layout_of(call(rows_alone, examples=5), 2) is None


def test_a_layer_that_gives_more_than_a_hidden_state_is_not_cut():
    class Two(Block):
        def forward(self, hidden, table=None, *, pair=(None, None)):
            return hidden, hidden

    one = call(rows_alone)
    assert layout_of(Recall.of(Two(rows_alone), one.args, one.kwargs), 3) is None
