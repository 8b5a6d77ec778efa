"""``spry memory``: rows from fresh processes, and what fits into a budget."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from spry.core.errors import ConfigError
from spry.measure.meter import tensor_peak
from spry.models.quantized.layers import quantize
from spry.profile import (
    MEASURED_METHODS,
    Case,
    CaseResult,
    measure_all,
    measure_in_subprocess,
    parse_bytes,
    what_fits,
)
from spry.profile.measure import build_subject, measure_case
from spry.profile.random_model import build_model
from spry.profile.steps import STEP_BY_METHOD, exact_slopes
from spry.profile.weight_bytes import weight_bytes
from spry.tasks.kinds import TASKS

SMALL = Case(model="minilm", method="spry", batch=2, length=24, layers=2, repeats=1, seconds=0.0)


@pytest.mark.parametrize("method", MEASURED_METHODS)
@pytest.mark.parametrize("settings", [{}, {"slice": "last"}, {"micro_batch": 1}, {"directions": 3}])
def test_slopes_agree_with_autograd_and_the_model_is_unchanged(method, settings):
    case = replace(SMALL, method=method, dtype="float64", **settings)
    subject = build_subject(case)
    before = {name: weight.detach().clone() for name, weight in subject.model.named_parameters()}
    slopes = STEP_BY_METHOD[method](subject)
    if method in {"spry", "forward-ad", "fedmezo"}:
        assert slopes.shape == (case.directions,)
        torch.testing.assert_close(
            slopes, exact_slopes(subject), rtol=1e-3 if method == "fedmezo" else 1e-9, atol=1e-9
        )
    else:
        assert slopes is None
    for name, weight in subject.model.named_parameters():
        torch.testing.assert_close(
            weight.detach(), before[name], rtol=0, atol=1e-12 if method == "fedmezo" else 0
        )
    assert not subject.model.training


@pytest.mark.parametrize("task", TASKS)
def test_each_tasks_own_loss_is_measured_on_texts_of_the_full_length(task):
    """Its slopes agree with autograd's, and examples in micro-batches with the whole batch."""
    model = "llama-1k" if task == "causal-lm" else "minilm"
    slopes = []
    for rows in (None, 1):
        case = replace(SMALL, model=model, task=task, batch=3, directions=2, micro_batch=rows)
        subject = build_subject(case)
        texts = torch.cat([part["attention_mask"].flatten(0, -2) for _, part in subject.parts])
        assert texts.all() and texts.shape == (6 if task == "multiple-choice" else 3, case.length)
        slopes.append(STEP_BY_METHOD["spry"](subject))
        torch.testing.assert_close(slopes[-1], exact_slopes(subject), rtol=2e-3, atol=1e-5)
    torch.testing.assert_close(*slopes, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", ["residual", "residual-2-blocks"])
def test_the_residual_guess_is_autograds_gradient_in_the_top_two_blocks(method):
    """Of three blocks the lowest has a guess."""
    case = replace(SMALL, method=method, dtype="float64", layers=3)
    subject, exact = build_subject(case), build_subject(replace(case, method="backprop"))
    STEP_BY_METHOD[method](subject)
    STEP_BY_METHOD["backprop"](exact)
    for name, weight in subject.params.items():
        same = torch.allclose(weight.grad, exact.params[name].grad, rtol=1e-9, atol=1e-12)
        assert same == (".layer.0." not in name)


def test_the_residual_guess_that_keeps_all_is_autograds_gradient():
    case = replace(SMALL, method="residual-full", dtype="float64", layers=3, batch=3, micro_batch=2)
    subject, exact = build_subject(case), build_subject(replace(case, method="backprop"))
    STEP_BY_METHOD[case.method](subject)
    STEP_BY_METHOD["backprop"](exact)
    for name, weight in subject.params.items():
        torch.testing.assert_close(weight.grad, exact.params[name].grad, rtol=1e-9, atol=1e-12)


def test_the_residual_guesss_peak_does_not_grow_with_depth():
    """``identity`` for all blocks, from 6 to 12: both make the blocks' inputs anew."""

    def peak(method, layers):
        case = replace(SMALL, method=method, layers=layers, batch=4, length=64)
        subject = build_subject(case)
        step = partial(STEP_BY_METHOD[method], subject)
        step()
        return tensor_peak(step)

    gradient = sum(weight.nbytes for weight in build_subject(replace(SMALL, layers=6)).params.values())
    assert peak("residual", 12) <= 1.05 * peak("residual", 6) + 4 * gradient
    assert peak("backprop+checkpointing", 12) > 1.2 * peak("backprop+checkpointing", 6) + 4 * gradient


def test_without_repeats_a_row_has_no_times():
    row = measure_case(replace(SMALL, method="residual", repeats=0))
    assert row.peak_bytes_above_model > 0
    assert row.operations > 0
    assert row.step_seconds is row.time_ratio is row.cpu_ratio is None
    assert row.timed == 0


@pytest.mark.parametrize("method", ["residual", "backprop", "backprop+checkpointing", "mesp"])
def test_micro_batches_add_up_to_the_batchs_gradient(method):
    gradients = []
    for rows in (None, 2):
        subject = build_subject(replace(SMALL, method=method, dtype="float64", batch=3, micro_batch=rows))
        STEP_BY_METHOD[method](subject)
        gradients.append({name: weight.grad for name, weight in subject.params.items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def test_the_last_slice_is_the_last_layers_lora_and_the_head():
    names = build_subject(replace(SMALL, slice="last")).params
    assert len([name for name in names if "lora" in name]) == 4
    assert all(".1." in name for name in names if "lora" in name)
    assert any("classifier" in name for name in names)


def test_a_row_comes_from_a_fresh_process_and_survives_json():
    rows = list(measure_all([SMALL, replace(SMALL, method="inference")]))
    for row in rows:
        assert row.error is None
        assert 0 < row.peak_bytes_above_model < 64 << 20
        assert row.total_peak_bytes > sum(row.resident_bytes.values())
        assert row.step_seconds > 0
        assert row.predicted_bytes > 0
        record = json.loads(json.dumps(row.to_json()))
        assert CaseResult.from_json(record) == row
        named = {
            "shape",
            "method",
            "batch",
            "length",
            "peak_bytes_above_model",
            "predicted_bytes",
            "step_seconds",
        }
        assert named | {"slope_relative_error"} <= record.keys()
    assert rows[0].slope_relative_error < 1e-4
    assert rows[1].slope_relative_error is None


def test_a_case_that_fails_gives_a_row_that_says_why():
    row = measure_in_subprocess(replace(SMALL, device="cuda:99"))
    assert row.peak_bytes_above_model is None
    assert row.error
    assert measure_in_subprocess(SMALL, timeout=0.01).error == "took longer than 0.01 s"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "bakprop"}, "Did you mean 'backprop'"),
        ({"batch": 0}, "batch is 0"),
        ({"length": -1}, "length is -1"),
        ({"directions": 0}, "directions is 0"),
        ({"repeats": -1}, "repeats is -1"),
    ],
)
def test_a_case_that_makes_no_sense_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        replace(SMALL, **settings)


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("2GB", 2 * 10**9), ("1.5 gib", 3 << 29), ("500 MB", 5 * 10**8)]
)
def test_sizes_are_read_with_their_unit(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "2 apples", "1e9"])
def test_a_text_that_is_no_size_is_refused(text):
    with pytest.raises(ConfigError, match="amount of memory"):
        parse_bytes(text)


def test_a_budget_tells_apart_what_fits():
    case = replace(SMALL, model="bert-base", batch=8, length=128, layers=4)
    weights = sum(weight_bytes(build_model("bert-base", layers=4, device="meta")).values())
    found = {
        (f.method, f.slice): f
        for f in what_fits(case, weights + (40 << 20), MEASURED_METHODS, measured=False)
    }
    assert found["spry", "all"].micro_batch == 8
    assert found["inference", "all"].fits
    assert 0 < found["backprop", "all"].micro_batch < found["backprop+checkpointing", "all"].micro_batch
    assert found["backprop", "last"].micro_batch > found["backprop", "all"].micro_batch
    assert not any(f.fits for f in what_fits(case, weights, MEASURED_METHODS, measured=False))


def test_a_fit_is_confirmed_by_a_measurement():
    weights = sum(weight_bytes(build_model("minilm", layers=2, device="meta")).values())
    (fit, _) = what_fits(SMALL, weights + (30 << 20), ["spry"], measured=True)
    assert fit.fits
    assert weights < fit.measured_bytes < weights + (30 << 20)


@pytest.mark.parametrize("quantization", ["nf4", "int8", "int4"])
def test_packed_weights_are_counted_before_they_exist(quantization):
    pytest.importorskip({"int4": "torchao"}.get(quantization, "bitsandbytes"))
    options = {"layers": 1, "dtype": torch.bfloat16}
    predicted = weight_bytes(build_model("llama-1k", device="meta", **options), quantization=quantization)
    real = weight_bytes(build_model("llama-1k", quantization=quantization, **options))
    assert predicted["body"] == pytest.approx(real["body"], rel=0.01)
    assert predicted["embeddings"] == real["embeddings"]


@pytest.mark.parametrize("quantization", ["nf4", "int8", "int4"])
def test_layers_that_stay_as_they_are_are_counted_so(quantization):
    """Poolers do, and in int4 each layer whose inputs no whole number of groups makes up."""
    pytest.importorskip({"int4": "torchao"}.get(quantization, "bitsandbytes"))
    shape = BertConfig(
        vocab_size=32, hidden_size=512, intermediate_size=608, num_hidden_layers=2, num_attention_heads=2
    )
    model = BertForSequenceClassification(shape).to(torch.bfloat16)
    predicted = weight_bytes(model, quantization=quantization)
    assert quantize(model, quantization) == (10 if quantization == "int4" else 12)
    assert predicted["body"] == pytest.approx(weight_bytes(model)["body"], rel=0.02)
