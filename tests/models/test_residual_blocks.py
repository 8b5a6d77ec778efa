"""Which models have residual blocks, found by what they compute."""

from __future__ import annotations

import pytest
from torch import nn

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.core.units import names_of
from spry.models.adapt import adapt
from spry.models.adapters import Lora, Norm
from spry.models.residual_blocks import find_blocks

LORA = Lora()


def found(backbone, adapter=LORA):
    return find_blocks(backbone, adapt(backbone, adapter, Key(0)).module)


def test_every_architecture_has_them(kind, backbone):
    blocks = found(backbone)
    assert len(blocks) == 2
    assert all(len(maps) >= 4 for maps in blocks.maps)


@pytest.mark.parametrize("kind", ["bert"])
def test_weights_are_sorted_by_block(backbone):
    adapted = adapt(backbone, Lora(), Key(0))
    names = names_of(adapted.units)
    assert find_blocks(backbone, adapted.module).below_last(names) == {
        0: [n for n in names if ".layer.0." in n]
    }


@pytest.mark.parametrize("kind", ["bert"])
def test_maps_are_the_outermost_and_norms_are_none(backbone):
    """A LoRA layer stands for the layer within it and for A and B; a tuned norm stays part of the stream."""
    blocks = found(backbone)
    kinds = [type(module).__module__.split(".")[0] for module in blocks.maps[0]]
    assert kinds.count("peft") == 2
    assert kinds.count("torch") == 4


@pytest.mark.parametrize("kind", ["albert"])
def test_a_block_that_is_called_twice_is_two(backbone):
    blocks = found(backbone)
    assert blocks.modules[0] is blocks.modules[1]
    assert blocks.prefixes[0] == blocks.prefixes[1]
    ((module, order),) = blocks.calls()
    assert (module, list(order)) == (blocks.modules[0], [0, 1])


@pytest.mark.parametrize("kind", ["llama"])
def test_tuned_norms_are_no_maps(backbone):
    assert len(found(backbone, Norm()).maps[0]) == 7


@pytest.mark.parametrize("kind", ["bert"])
def test_blocks_without_a_stream_are_refused(backbone):
    """Sums around the maps are taken out, so that nothing goes past them."""
    for layer in backbone.model.bert.encoder.layer:
        layer.attention.output.forward = lambda hidden, _, own=layer.attention.output: own.dense(hidden)
        layer.output.forward = lambda hidden, _, own=layer.output: own.dense(hidden)
    with pytest.raises(ModelError, match="passes nothing on beside its linear maps"):
        found(backbone)


class Between(nn.Module):
    """A block that is called with something else than the one before gave."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def __call__(self, hidden, *args, **kwargs):
        return super().__call__(1.5 * hidden, *args, **kwargs)

    def forward(self, hidden, *args, **kwargs):
        return self.block(hidden, *args, **kwargs)


@pytest.mark.parametrize("kind", ["bert"])
def test_something_between_blocks_is_refused(backbone):
    encoder = backbone.model.bert.encoder
    encoder.layer = nn.ModuleList([Between(block) for block in encoder.layer])
    with pytest.raises(ModelError, match=r"has no residual blocks.*something is computed between"):
        found(backbone)
