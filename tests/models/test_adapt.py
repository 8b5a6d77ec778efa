from __future__ import annotations

import math

import pytest
import torch

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.core.units import names_of
from spry.models.adapt import adapt
from spry.models.adapters import Lora
from spry.models.load import Backbone

HEADS = {
    "bert": {"classifier.weight", "classifier.bias"},
    "albert": {"classifier.weight", "classifier.bias"},
    "deberta-v2": {"pooler.dense.weight", "pooler.dense.bias", "classifier.weight", "classifier.bias"},
    "distilbert": {
        "pre_classifier.weight",
        "pre_classifier.bias",
        "classifier.weight",
        "classifier.bias",
    },
    "roberta": {
        "classifier.dense.weight",
        "classifier.dense.bias",
        "classifier.out_proj.weight",
        "classifier.out_proj.bias",
    },
}
HEADS["electra"] = HEADS["roberta"]


def plain(name: str) -> str:
    return name.removeprefix("base_model.model.").replace("modules_to_save.default.", "")


def test_the_head_is_one_unit_and_holds_all_its_layers(backbone, kind):
    adapted = adapt(backbone, Lora(), Key(0))
    *others, head = adapted.units
    assert head.head
    assert not any(unit.head for unit in others)
    assert {plain(name) for name in head.names} == HEADS.get(kind, {"score.weight"})


def test_a_and_b_of_one_module_are_one_unit_in_model_order(backbone):
    adapted = adapt(backbone, Lora(rank=2), Key(0))
    order = [name for name, _ in adapted.module.named_parameters()]
    assert list(names_of(adapted.units)) == sorted(names_of(adapted.units), key=order.index)
    for unit in adapted.units[:-1]:
        assert [name.removeprefix(f"base_model.model.{unit.name}.") for name in unit.names] == [
            "lora_A.default.weight",
            "lora_B.default.weight",
        ]
    assert len({unit.name for unit in adapted.units}) == len(adapted.units)


def test_nothing_requires_grad_and_the_start_is_the_pretrained_model(backbone):
    inputs = {"input_ids": torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]]), "attention_mask": torch.ones(2, 4)}
    inputs["attention_mask"][1, 3] = 0
    with torch.no_grad():
        before = backbone.model(**inputs).logits
        adapted = adapt(backbone, Lora(rank=2, alpha=8.0), Key(0))
        after = adapted.module(**inputs).logits
    assert not any(weight.requires_grad for weight in adapted.module.parameters())
    assert not any(child.training for child in adapted.module.modules())
    assert after.equal(before)


def test_the_key_alone_decides_where_lora_starts(tiny_tokenizer, backbone, kind):
    from copy import deepcopy

    def start(key: Key) -> dict[str, torch.Tensor]:
        fresh = Backbone(
            name=kind, model=deepcopy(backbone.model), tokenizer=tiny_tokenizer, newly_initialized=()
        )
        adapted = adapt(fresh, Lora(rank=4), key)
        return {name: adapted.module.get_parameter(name) for name in names_of(adapted.units)}

    state = torch.get_rng_state()
    first = start(Key(0))
    assert torch.get_rng_state().equal(state)
    torch.rand(3)
    again, other = start(Key(0)), start(Key(1))
    for name, value in first.items():
        assert value.equal(again[name])
        if "lora_A" in name:
            bound = 1 / math.sqrt(value.shape[1])
            assert not value.equal(other[name])
            assert value.abs().max() <= bound
            assert value.std() == pytest.approx(bound / math.sqrt(3), rel=0.3)
        if "lora_B" in name:
            assert not value.any()


@pytest.mark.parametrize("kind", ["bert"])
def test_named_targets_are_adapted_and_unknown_ones_refused(backbone, kind):
    with pytest.raises(ModelError, match=r"'q_proj' fits no linear module\..*key, .*query, .*value"):
        adapt(backbone, Lora(targets=("q_proj",)), Key(0))
    adapted = adapt(backbone, Lora(targets=("layer.1.attention.self.key", "intermediate.dense")), Key(0))
    assert [unit.name for unit in adapted.units] == [
        "bert.encoder.layer.0.intermediate.dense",
        "bert.encoder.layer.1.attention.self.key",
        "bert.encoder.layer.1.intermediate.dense",
        "head",
    ]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"rank": 0}, "rank is 0. Allowed: at least 1"),
        ({"alpha": 0.0}, "alpha is 0.0. Allowed: above 0"),
        ({"dropout": 1.0}, "dropout is 1.0. Allowed: from 0 to below 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, says):
    with pytest.raises(ModelError, match=says):
        Lora(**settings)
