"""Shapes have the sizes they are named for, need no download, and are built without a second copy."""

from __future__ import annotations

import importlib.util
import shutil

import pytest
import torch

from spry.core.errors import ConfigError
from spry.core.keys import Key
from spry.measure.meter import tensor_peak
from spry.profile.architectures import ARCHITECTURES
from spry.profile.case import Case
from spry.profile.measure import build_subject
from spry.profile.predict import has_formula
from spry.profile.random_model import build_model, example_batch
from spry.profile.steps import STEP_BY_METHOD, exact_slopes
from spry.tasks.causal_lm.kind import LANGUAGE_MODEL

PUBLISHED = {  # parameters of the published bodies, without task head, in millions
    "minilm": 22.7,
    "bert-base": 109.5,
    "bert-large": 335.1,
    "roberta-base": 124.6,
    "roberta-large": 355.4,
    "distilbert": 66.4,
    "gpt2": 124.4,
    "llama2-7b": 6607.3,  # 6738 less the language-model head
    "opt-125m": 125.2,
    "opt-1.3b": 1315.8,
    "opt-6.7b": 6658.5,
    "opt-13b": 12853.5,
}
quantised = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes")


def trainable(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_shape_has_the_published_number_of_weights(name: str):
    model = build_model(name, device="meta")
    body = sum(
        w.numel()
        for n, w in model.named_parameters()
        if "lora" not in n and "class" not in n and "score" not in n
    )
    assert body / 1e6 == pytest.approx(PUBLISHED[name], rel=0.01)


@pytest.mark.parametrize(
    "name", [name for name in ARCHITECTURES if name not in {"llama2-7b", "opt-13b", "opt-6.7b", "opt-1.3b"}]
)
def test_a_shape_runs_on_a_random_batch(name: str):
    model = build_model(name, layers=1)
    batch = example_batch(model, 2, 9)
    with torch.no_grad():
        assert torch.isfinite(model(**batch).loss)
    assert all(weight.abs().sum() > 0 for weight in trainable(model).values())


@pytest.mark.parametrize("name", ["bert-base", "roberta-base", "opt-125m", "gpt2"])
def test_positions_grow_with_the_length_asked_for(name: str):
    model = build_model(name, layers=1, length=1100)
    with torch.no_grad():
        assert torch.isfinite(model(**example_batch(model, 1, 1100)).loss)


def test_equal_keys_give_equal_models_and_other_keys_others():
    first, second, other = (build_model("minilm", layers=1, key=Key(seed)) for seed in (1, 1, 2))
    pairs = zip(first.parameters(), second.parameters(), other.parameters(), strict=True)
    assert all(a.equal(b) and (not a.equal(c) or a.unique().numel() == 1) for a, b, c in pairs)


def test_the_global_generator_decides_nothing():
    torch.manual_seed(1)
    first = build_model("minilm", layers=1)
    torch.manual_seed(2)
    assert all(
        a.equal(b)
        for a, b in zip(first.parameters(), build_model("minilm", layers=1).parameters(), strict=True)
    )


def test_a_language_model_head_is_frozen_and_tied_where_the_family_ties_it():
    model = build_model("gpt2", layers=1, head=LANGUAGE_MODEL)
    assert all("lora" in name for name in trainable(model))
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert example_batch(model, 2, 5)["labels"].shape == (2, 5)


def test_no_second_copy_of_the_model_exists_while_it_is_built():
    size = sum(w.numel() * w.element_size() for w in build_model("bert-base", device="meta").parameters())
    assert size <= tensor_peak(lambda: build_model("bert-base")) < 1.1 * size


@quantised
@pytest.mark.parametrize("name", ["minilm", "llama-1k", "opt-125m"])
def test_a_4_bit_shape_is_small_and_runs(name: str):
    import bitsandbytes

    model = build_model(name, layers=1, quantization="nf4", dtype=torch.bfloat16)
    layers = [m for m in model.modules() if isinstance(m, bitsandbytes.nn.Linear4bit)]
    assert len(layers) >= 6
    assert all(layer.weight.dtype == torch.uint8 and layer.quant_state.nested for layer in layers)
    with torch.no_grad():
        assert torch.isfinite(model(**example_batch(model, 2, 9)).loss)


def test_ones_own_model_is_laid_out_by_its_configuration(tiny_model):
    from transformers import AutoModel

    own = AutoModel.from_pretrained(tiny_model)
    model = build_model(str(tiny_model), length=32)
    laid = {
        name: tuple(w.shape)
        for name, w in model.get_base_model().bert.named_parameters()
        if "lora" not in name
    }
    assert {name.replace(".base_layer", ""): shape for name, shape in laid.items()} == {
        name: tuple(weight.shape) for name, weight in own.named_parameters()
    }
    assert sorted(name.split(".")[-4] for name in trainable(model) if "lora_A" in name) == [
        "query",
        "query",
        "value",
        "value",
    ]
    chosen = build_model(str(tiny_model), length=32, layers=1, targets=["key"])
    assert [name.split(".")[-4] for name in trainable(chosen) if "lora_A" in name] == ["key"]


def test_the_weights_of_ones_own_model_are_not_read(tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "hollow")
    (tmp_path / "hollow" / "model.safetensors").write_bytes(b"nothing of use")
    model = build_model(str(tmp_path / "hollow"), length=16)
    with torch.no_grad():
        assert torch.isfinite(model(**example_batch(model, 2, 16)).loss)


@pytest.mark.parametrize("kind", ["T5", "Bart", "Bloom"])
def test_models_of_other_kinds_are_measured_without_a_prediction(kind, tmp_path):
    import transformers

    sizes = {
        "T5": {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0},
        "Bart": {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
                 "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32},
        "Bloom": {"hidden_size": 16, "n_layer": 2, "n_head": 2},
    }[kind]  # fmt: skip
    ends = {"vocab_size": 32, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    getattr(transformers, f"{kind}Model")(
        getattr(transformers, f"{kind}Config")(**sizes, **ends)
    ).save_pretrained(tmp_path)
    case = Case(model=str(tmp_path), method="spry", batch=2, length=12)
    subject = build_subject(case)
    slopes = STEP_BY_METHOD["spry"](subject)
    torch.testing.assert_close(slopes, exact_slopes(subject), rtol=1e-3, atol=1e-6)
    assert not has_formula(subject.model)
    assert has_formula(build_model("shape:minilm", layers=1, device="meta"))


def test_an_unknown_shape_is_refused_with_its_neighbour():
    with pytest.raises(ConfigError, match="Did you mean 'bert-base'"):
        build_model("bert-bas")


def test_an_encoder_has_no_language_model_head():
    with pytest.raises(
        ConfigError, match="cannot be a causal language model: transformers has none of the type"
    ):
        build_model("bert-base", head=LANGUAGE_MODEL)
