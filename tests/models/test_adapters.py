"""Every kind of PEFT weights: starts at the pretrained model, has exact slopes, and is read back by ``peft``."""

from __future__ import annotations

import pytest
import torch

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.core.params import dot, size
from spry.core.units import names_of
from spry.forward import jvp
from spry.models.adapt import adapt
from spry.models.adapters import (
    ADAPTERS,
    BareHead,
    BitFit,
    Dora,
    FromConfig,
    HeadModules,
    Ia3,
    Lora,
    Norm,
    RsLora,
    Vera,
    register_adapter,
)
from spry.models.adapters.adapter import adapted_layers
from spry.tasks.classification import ClassificationTask
from tests.laws.problem import gradient
from tests.models.setting import setting

KINDS = {
    "lora": Lora(rank=2, alpha=4.0),
    "rslora": RsLora(rank=4, alpha=4.0),
    "dora": Dora(rank=2, alpha=4.0),
    "head": BareHead(),
    "vera": Vera(rank=5),
    "ia3": Ia3(),
    "bitfit": BitFit(),
    "norm": Norm(),
}
MODELS = ["bert", "distilbert", "deberta-v2", "gpt2", "llama", "gpt_neox"]
BARE = {("bitfit", "llama")}  # a model without biases

every = pytest.mark.parametrize(
    ("name", "kind"), [(n, m) for n in KINDS for m in MODELS if (n, m) not in BARE]
)


@every
def test_the_start_is_the_pretrained_model_and_nothing_requires_grad(backbone, name):
    inputs = {"input_ids": torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]]), "attention_mask": torch.ones(2, 4)}
    with torch.no_grad():
        before = backbone.model(**inputs).logits
        adapted = adapt(backbone, KINDS[name], Key(0))
        torch.testing.assert_close(adapted.module(**inputs).logits, before)
    assert not any(weight.requires_grad for weight in adapted.module.parameters())
    assert not any(child.training for child in adapted.module.modules())
    *body, head = adapted.units
    assert bool(body) == (name != "head")
    assert head.head
    assert not any("lora" in n or "vera" in n or "ia3" in n or "ln_tuning" in n for n in head.names)
    assert not any("original_module" in n for n in names_of(adapted.units))
    every_name = names_of(adapted.units)
    assert len(set(every_name)) == len(every_name)


@every
def test_the_adapter_is_read_by_peft_and_gives_the_same_logits(folder, name, tmp_path, reviews, capfd):
    from peft import PeftModel

    from tests.tasks.test_classification import base_model

    task = ClassificationTask(str(folder), labels=3, key=Key(3), adapter=KINDS[name])
    weights = {n: w + 0.3 * Key(5).normal(n, tuple(w.shape)) for n, w in task.init().items()}
    batch = task.encode(reviews, max_length=16).batch(range(5))
    task.save_adapter(weights, tmp_path / "adapter")
    assert capfd.readouterr() == ("", "")
    inputs = {n: value for n, value in batch.items() if n != "labels"}
    with torch.no_grad():
        read = PeftModel.from_pretrained(base_model(folder), tmp_path / "adapter").eval()
        torch.testing.assert_close(read(**inputs).logits, task.logits(weights, batch), rtol=1e-5, atol=1e-5)
        alone = {n: w for n, w in weights.items() if name == "head" or n not in task.units[-1].names}
        assert not task.logits(alone, batch).allclose(task.logits({}, batch))  # its weights matter


@every
def test_slopes_are_exact(folder, name, kind, reviews):
    _, loss, weights = setting(folder, reviews, KINDS[name])
    v = [{n: Key(k).normal(n, tuple(w.shape), like=w) for n, w in weights.items()} for k in range(2)]
    _, slopes = jvp(loss, weights, v)
    exact = gradient(loss, weights)
    precision = 1e-4 if kind == "llama" else 1e-8  # its RMS norm computes in float32 whatever the weights are
    assert slopes.tolist() == pytest.approx([dot(exact, one) for one in v], rel=precision)


@pytest.mark.parametrize("kind", ["bert"])
def test_what_each_kind_trains(backbone):
    def trained(method):
        from copy import deepcopy
        from dataclasses import replace

        made = adapt(replace(backbone, model=deepcopy(backbone.model)), method, Key(0))
        return {n: made.module.get_parameter(n) for n in names_of(made.units[:-1])}

    assert size(trained(Vera(rank=5))) == 4 * (16 + 5)
    assert size(trained(Ia3())) == 2 * (16 + 16 + 24)
    assert size(trained(Norm())) == 5 * 2 * 16
    biases = sum(p.numel() for n, p in backbone.model.bert.named_parameters() if n.endswith("bias"))
    assert size(trained(BitFit())) == biases
    assert size(trained(BitFit(targets=("query",)))) == 2 * 16
    assert size(trained(Norm(targets=("0.output.LayerNorm",)))) == 2 * 16
    assert size(trained(Ia3(targets=("query", "1.output.dense")))) == 2 * 16 + 24


@pytest.mark.parametrize("kind", ["bert"])
def test_patterns_give_modules_their_own_rank_and_scale_as_peft_does(folder, reviews, tmp_path):
    """In the folder, too, so that plain peft reads the same ranks and scales."""
    import json

    from peft import PeftModel

    from tests.tasks.test_classification import base_model

    ranks, alphas = {"value": 3, r"layer\.1\..*query": 5}, {"0.attention.self.query": 8.0}
    kind = RsLora(rank=2, rank_pattern=ranks, alpha_pattern=alphas)
    task = ClassificationTask(str(folder), labels=3, key=Key(3), adapter=kind)
    drawn = {n: w for n, w in task.init().items() if "lora_A" in n}
    assert [len(w) for w in drawn.values()] == [2, 3, 5, 3]
    weights = {n: w + 0.3 * Key(5).normal(n, tuple(w.shape)) for n, w in task.init().items()}
    task.save_adapter(weights, tmp_path / "adapter")
    written = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (written["rank_pattern"], written["alpha_pattern"]) == (ranks, alphas)
    batch = task.encode(reviews, max_length=16).batch(range(5))
    with torch.no_grad():
        read = PeftModel.from_pretrained(base_model(folder), tmp_path / "adapter").eval()
        theirs = read(**{n: value for n, value in batch.items() if n != "labels"}).logits
    torch.testing.assert_close(theirs, task.logits(weights, batch), rtol=1e-5, atol=1e-5)
    scales = [
        layer.scaling["default"] for layer in map(task.module.get_submodule, adapted_layers(task.module))
    ]
    assert scales == pytest.approx([8 / 2**0.5, 3**-0.5, 5**-0.5, 3**-0.5])


@pytest.mark.parametrize("kind", ["bert"])
@pytest.mark.parametrize(
    ("patterns", "says"),
    [
        ({"rank_pattern": {"key": 2}}, "'key', which fits no adapted module. They end in: query, value"),
        ({"alpha_pattern": {"(": 2.0}}, "which is no regular expression"),
        ({"rank_pattern": {"query": 0}}, "Allowed: ranks of at least 1"),
        ({"alpha_pattern": {"query": 0.0}}, "Allowed: values above 0"),
    ],
)  # fmt: skip
def test_patterns_that_change_nothing_are_refused(backbone, patterns, says):
    with pytest.raises(ModelError, match=says):
        adapt(backbone, Lora(**patterns), Key(0))


@pytest.mark.parametrize("name", ["lora", "rslora", "dora"])
@pytest.mark.parametrize("kind", ["bert", "gpt2", "opt"])
def test_embeddings_can_be_adapted(folder, kind, name, reviews, tmp_path):
    """What they look up is linear in A and in B, so slopes are exact; of DoRA's magnitudes, too."""
    from dataclasses import replace

    from peft import PeftModel

    from tests.tasks.test_classification import base_model

    words, maps = {
        "bert": ("word_embeddings", "query"),
        "gpt2": ("wte", "c_attn"),
        "opt": ("embed_tokens", "q_proj"),
    }[kind]
    adapter = replace(KINDS[name], targets=(words, maps))
    task, loss, weights = setting(folder, reviews, adapter)
    moved = [n for n in weights if "lora_embedding" in n]
    assert len(moved) == 2
    v = [{n: Key(k).normal(n, tuple(w.shape), like=w) for n, w in weights.items()} for k in range(2)]
    exact = gradient(loss, weights)
    assert all(exact[n].norm() > 0 for n in moved)
    assert jvp(loss, weights, v)[1].tolist() == pytest.approx([dot(exact, one) for one in v], rel=1e-8)
    assert task.init()[moved[0]].equal(setting(folder, reviews, adapter)[0].init()[moved[0]])
    task = ClassificationTask(str(folder), labels=3, key=Key(3), adapter=adapter)
    weights = {n: w.float() for n, w in weights.items()}
    batch = task.encode(reviews, max_length=16).batch(range(5))
    task.save_adapter(weights, tmp_path / "adapter")
    with torch.no_grad():
        read = PeftModel.from_pretrained(base_model(folder), tmp_path / "adapter").eval()
        theirs = read(**{n: value for n, value in batch.items() if n != "labels"}).logits
    torch.testing.assert_close(theirs, task.logits(weights, batch), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert"])
def test_embeddings_are_for_kinds_that_are_linear_in_them(backbone):
    with pytest.raises(ModelError, match="'word_embeddings' fits no linear module"):
        adapt(backbone, Vera(targets=("word_embeddings",)), Key(0))


@pytest.mark.parametrize("kind", ["bert"])
def test_the_head_alone_has_no_targets(backbone):
    with pytest.raises(ModelError, match="'head' adapts no modules"):
        adapt(backbone, BareHead(targets=("query",)), Key(0))


@pytest.mark.parametrize("kind", ["llama"])
def test_a_model_without_biases_is_refused(backbone):
    with pytest.raises(ModelError, match=r"no such biases.*'norm'"):
        adapt(backbone, BitFit(), Key(0))


@pytest.mark.parametrize("kind", ["bert"])
def test_norms_that_are_not_there_are_refused(backbone):
    with pytest.raises(ModelError, match=r"No norm fits \['rms'\].*end in: LayerNorm"):
        adapt(backbone, Norm(targets=("rms",)), Key(0))


@pytest.mark.parametrize("settings", [{"rank": 0}, {"dropout": 1.0}])
def test_settings_of_vera_out_of_range_are_refused(settings):
    with pytest.raises(ModelError, match="Allowed: a rank of at least 1"):
        Vera(**settings)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_configuration_of_peft_is_an_adapter_and_lora_starts_where_ours_does(folder, backbone, reviews):
    from peft import LoraConfig

    ours, _, _ = setting(folder, reviews, Lora(rank=2, alpha=4.0), exact="last_block")
    config = LoraConfig(r=2, lora_alpha=4)
    theirs, loss, weights = setting(folder, reviews, config, exact="last_block")
    assert config.target_modules is None and config.task_type is None  # it was copied
    assert [unit.names for unit in ours.units] == [unit.names for unit in theirs.units]
    assert all(w.equal(theirs.init()[n]) for n, w in ours.init().items())
    exact = gradient(loss, weights)
    v = {n: Key(1).normal(n, tuple(w.shape), like=w) for n, w in weights.items()}
    assert jvp(loss, weights, [v])[1].tolist() == pytest.approx([dot(exact, v)], rel=1e-4)


@pytest.mark.parametrize("kind", ["bert"])
def test_what_peft_draws_follows_from_the_key_alone(folder, reviews):
    from peft import LoHaConfig

    config = LoHaConfig(r=2, init_weights=False, target_modules=["query"])
    first, again = (setting(folder, reviews, config)[0].init() for _ in range(2))
    assert any(w.any() for w in first.values()) and all(w.equal(again[n]) for n, w in first.items())


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("name", ["lora", "vera", "ia3", "norm"])
def test_an_open_configuration_of_peft_is_filled_as_the_table_fills_its_own(folder, reviews, name, tmp_path):
    """IA3's and norms' are other modules than LoRA's; the saved adapter must be one that peft reads."""
    import peft
    from peft import PeftModel

    from tests.tasks.test_classification import base_model

    config = {
        "lora": peft.LoraConfig(r=2),
        "vera": peft.VeraConfig(r=5),
        "ia3": peft.IA3Config(inference_mode=True),  # as one says that was read beside saved weights
        "norm": peft.LNTuningConfig(task_type="SEQ_CLS"),
    }[name]
    task = ClassificationTask(str(folder), labels=3, key=Key(3), adapter=config)
    table = ClassificationTask(str(folder), labels=3, key=Key(3), adapter=KINDS[name])
    assert names_of(task.units) == names_of(table.units)
    weights = {n: w + 0.3 * Key(5).normal(n, tuple(w.shape)) for n, w in task.init().items()}
    batch = task.encode(reviews, max_length=16).batch(range(5))
    task.save_adapter(weights, tmp_path / "adapter")
    with torch.no_grad():
        read = PeftModel.from_pretrained(base_model(folder), tmp_path / "adapter").eval()
        theirs = read(**{n: value for n, value in batch.items() if n != "labels"}).logits
    torch.testing.assert_close(theirs, task.logits(weights, batch), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert"])
def test_modules_that_a_configuration_saves_are_saved_with_the_head(folder, tiny_tokenizer):
    from peft import LoraConfig
    from transformers import BertModel

    BertModel.from_pretrained(folder, add_pooling_layer=False).save_pretrained(
        folder
    )  # so the pooler is drawn
    config = LoraConfig(r=2, modules_to_save=["classifier"])
    task = ClassificationTask(str(folder), labels=3, adapter=config)
    assert any("pooler" in name for name in task.units[-1].names)
    assert any("classifier" in name for name in task.units[-1].names)


@pytest.mark.parametrize("kind", ["bert"])
@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda peft: peft.LoraConfig(task_type="CAUSAL_LM"), r"LoraConfig has task_type = 'CAUSAL_LM'"),
        (lambda peft: peft.PromptTuningConfig(num_virtual_tokens=2), "adds tokens to the text"),
        (lambda peft: peft.TrainableTokensConfig(token_indices=[1]), "does not train the classifier's own classifier"),
        (lambda peft: peft.RoadConfig(), r"peft cannot add peft.RoadConfig to it \(ValueError: .*peft.targets"),
    ],
)  # fmt: skip
def test_configurations_that_cannot_be_trained_are_refused(folder, made, says):
    import peft

    with pytest.raises(ModelError, match=says) as caught:
        ClassificationTask(str(folder), labels=3, adapter=made(peft))
    assert "\n" not in str(caught.value)


def test_what_is_no_adapter_is_refused():
    with pytest.raises(ModelError, match=r"such as peft.LoraConfig\(r=16\)"):
        FromConfig(config="lora")


@pytest.mark.parametrize("kind", ["bert"])
def test_an_adapter_of_ones_own_takes_a_few_lines(folder, reviews):
    """LoRA with biases of B, which is not in the table: they are trained beside A and B, and slopes are exact."""
    from dataclasses import dataclass

    @register_adapter("lora_bias")
    @dataclass(frozen=True, kw_only=True)
    class LoraBias(Lora):
        def to_peft(self, backbone, head: HeadModules, key):
            config = super().to_peft(backbone, head, key)
            config.lora_bias = True
            return config

    try:
        _, loss, weights = setting(folder, reviews, ADAPTERS["lora_bias"](rank=2))
    finally:
        del ADAPTERS["lora_bias"]
    assert any("lora_B" in name and name.endswith("bias") for name in weights)
    exact = gradient(loss, weights)
    v = {n: Key(1).normal(n, tuple(w.shape), like=w) for n, w in weights.items()}
    assert jvp(loss, weights, [v])[1].tolist() == pytest.approx([dot(exact, v)], rel=1e-6)
