from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from spry.core.errors import ModelError
from spry.models import targets

EXPECTED = {
    "bert": r"encoder\.layer\.[01]\.attention\.self\.(query|value)",
    "roberta": r"encoder\.layer\.[01]\.attention\.self\.(query|value)",
    "electra": r"encoder\.layer\.[01]\.attention\.self\.(query|value)",
    "albert": r"encoder\..*\.attention\.(query|value)",
    "deberta-v2": r"encoder\.layer\.[01]\.attention\.self\.(query|value)_proj",
    "distilbert": r"transformer\.layer\.[01]\.attention\.(q|v)_lin",
    "gpt2": r"h\.[01]\.attn\.c_attn",
    "gpt_neox": r"layers\.[01]\.attention\.query_key_value",
    "opt": r"decoder\.layers\.[01]\.self_attn\.(q|v)_proj",
}
LLAMA_LIKE = r"layers\.[01]\.self_attn\.(q|v)_proj"


def test_query_and_value_projections_are_found_in_every_layer(backbone, kind):
    pretrained = getattr(backbone.model, backbone.model.base_model_prefix)
    found = targets.find_targets(pretrained)
    pattern = re.compile(EXPECTED.get(kind, LLAMA_LIKE))
    assert all(pattern.fullmatch(name) for name in found), found
    layers = 1 if kind == "albert" else 2
    assert len(found) == layers * (1 if kind in {"gpt2", "gpt_neox"} else 2)
    assert found == [name for name in targets.linear_names(pretrained) if name in found]


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down, self.q = nn.Linear(2, 2), nn.Linear(2, 2), nn.Embedding(2, 2)


def test_nothing_found_lists_what_there_is():
    with pytest.raises(ModelError, match=r"No PEFT targets .* end in: down, up\."):
        targets.find_targets(Plain())
    with pytest.raises(ModelError, match=r"'q_proj' fits no linear module.* end in: down, up\."):
        targets.find_targets(Plain(), ["up", "q_proj"])
    with pytest.raises(ModelError, match="No PEFT targets were given"):
        targets.find_targets(Plain(), [])


def test_named_targets_are_taken_in_model_order():
    assert targets.find_targets(Plain(), ["down", "up"]) == ["up", "down"]
    model = nn.ModuleDict({"a": Plain(), "b": Plain()})
    assert targets.find_targets(model, ["b.up", "down"]) == ["a.down", "b.up", "b.down"]


def test_names_are_shortened_only_where_that_means_the_same():
    every = ["a.up", "a.down", "b.up", "b.down"]
    assert targets.endings(["a.up", "b.up"], every) == ["up"]
    assert targets.endings(["a.up"], every) == ["a.up"]


def test_a_router_is_no_linear_map_though_it_is_a_subclass_of_one():
    """Phi's mixture of experts routes by a linear layer that gives weights and choices; PEFT would add to the pair."""
    from transformers import PhimoeConfig, PhimoeModel

    with torch.device("meta"):
        model = PhimoeModel(PhimoeConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2))
    routers = [name for name, module in model.named_modules() if name.endswith("router")]
    assert routers and isinstance(model.get_submodule(routers[0]), torch.nn.Linear)
    assert not {*routers} & {*targets.linear_names(model)}
    assert "layers.0.self_attn.q_proj" in targets.linear_names(model)


def test_a_model_without_attention_is_adapted_at_its_feed_forward():
    from transformers import FNetConfig, FNetModel

    with torch.device("meta"):
        model = FNetModel(FNetConfig(hidden_size=16, num_hidden_layers=2, intermediate_size=24))
    assert targets.find_targets(model) == [f"encoder.layer.{layer}.output.dense" for layer in range(2)]


def test_the_map_that_mambas_kernels_read_is_left_alone():
    from transformers import MambaConfig, MambaModel

    with torch.device("meta"):
        model = MambaModel(MambaConfig(hidden_size=16, num_hidden_layers=1, state_size=4, vocab_size=32))
    found = {name.rpartition(".")[2] for name in targets.linear_names(model)}
    assert found == {"in_proj", "x_proj", "dt_proj"}
