"""The head with adapters above the last attention or of the last block: its maps, its exact gradient, its memory."""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest
import torch
from spry.estimators.activation import activation
from tests.forward.reference import scale_down
from tests.laws.problem import gradient
from tests.tasks.test_taps import setting
from transformers import AutoConfig

from spry.contrib.lora_xs import LoraXs
from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.core.units import names_of
from spry.data.dataset import Dataset
from spry.estimators.directions import rademacher
from spry.estimators.projected import Measurement, projected
from spry.estimators.slopes import central_difference, forward_difference, forward_mode
from spry.measure.meter import tensor_peak
from spry.models.adapt import adapt
from spry.models.adapters.lora import Lora, LoraA
from spry.models.adapters.vera import Vera
from spry.models.last_block import last_block_maps, top_maps
from spry.models.targets import linear_names
from spry.tasks.classification import ClassificationTask

HEADS = ("top", "block")
KINDS = {"lora": Lora(rank=2), "lora_a": LoraA(rank=2), "lora_xs": LoraXs(rank=2)}


def test_only_one_position_of_a_text_gives_top_maps_a_gradient(backbone, kind):
    """Judged by autograd: the derivative of the logits by the outputs of every map of the pretrained part."""
    model, found = backbone.model, top_maps(backbone)
    outputs: dict[str, torch.Tensor] = {}

    def keep(name):
        def hook(module, args, output):
            outputs[name] = output if output.requires_grad else output.requires_grad_()

        return hook

    linears = {n: m for n, m in linear_names(model).items() if n.startswith(f"{model.base_model_prefix}.")}
    handles = [module.register_forward_hook(keep(name)) for name, module in linears.items()]
    logits = model(input_ids=torch.arange(4, 16).view(2, 6)).logits
    for handle in handles:
        handle.remove()
    slopes = torch.autograd.grad(logits.square().sum(), list(outputs.values()), allow_unused=True)
    places = {
        name: 0 if g is None else int((g.flatten(2).abs().amax(2) > 0).sum(1).max()) if g.dim() == 3 else 1
        for name, g in zip(outputs, slopes, strict=True)
    }
    assert (
        len(found) == 1 if kind == "albert" else len(found) >= 3
    )  # albert's layers share weights: its pooler alone
    assert all(places[name] == 1 for name in found)
    after = list(places)[list(places).index(found[0]) :]
    assert [name for name in after if places[name]] == found


def test_the_last_block_has_the_maps_of_the_top_and_of_its_attention(backbone, kind):
    """Judged by the models' own classes: nothing outside the last block, its attention inside."""
    found, top = last_block_maps(backbone), top_maps(backbone)
    if kind == "albert":  # its layers share weights
        assert found == []
        return
    linears = linear_names(backbone.model)
    assert {name for name in linears if ".1." in name} == set(found) - {n for n in top if ".1." not in n}
    assert set(top) < set(found)
    assert any("att" in name for name in set(found) - set(top))


@pytest.mark.parametrize("kind", ["bert", "distilbert", "gpt2", "llama"])
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("how", ["forward_mode", "central_difference", "forward_difference", "activation"])
@pytest.mark.parametrize("head", HEADS)
def test_its_gradient_is_exact_beside_moved_weights(folder, reviews, name, how, kind, head):
    task, loss, weights = setting(folder, reviews, replace(KINDS[name], head=head), micro=2)
    *body, head = task.units
    assert any("lora_A" in n for n in head.names)
    assert any("lora_B" in n for n in head.names)
    assert not set(names_of(body)) & set(head.names)
    measurement = Measurement(directions=rademacher, exact=frozenset(head.names))
    estimate = {
        "forward_mode": projected(forward_mode, measurement, 2),
        "central_difference": projected(central_difference(1e-4), measurement, 2),
        "forward_difference": projected(forward_difference(1e-4), measurement, 2),
        "activation": activation(measurement, 2),
    }[how](loss, weights, Key(1))
    exact = gradient(loss, weights)
    # central differences take it at both sides; llama's RMS norm computes in float32 whatever the weights are
    close = how != "central_difference" and kind != "llama"
    precision = {"rtol": 1e-7, "atol": 1e-10} if close else {"rtol": 1e-4, "atol": 1e-6}
    for n in head.names:
        torch.testing.assert_close(estimate.gradient[n], exact[n], **precision)
    assert any(estimate.gradient[n].any() for n in names_of(body))


@pytest.mark.parametrize("kind", ["bert", "llama"])
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("head", HEADS)
def test_it_is_read_back_by_peft(folder, reviews, name, head, tmp_path):
    from peft import PeftModel
    from tests.tasks.test_classification import base_model

    task = ClassificationTask(str(folder), labels=3, key=Key(3), method=replace(KINDS[name], head=head))
    weights = {n: w + 0.3 * Key(5).normal(n, tuple(w.shape)) for n, w in task.init().items()}
    batch = task.encode(reviews, max_length=16).batch(range(5))
    task.save_adapter(weights, tmp_path / "adapter")
    read = PeftModel.from_pretrained(base_model(folder), tmp_path / "adapter").eval()
    with torch.no_grad():
        theirs = read(**{n: v for n, v in batch.items() if n != "labels"}).logits
        torch.testing.assert_close(task.logits(weights, batch), theirs)


def long_texts(monkeypatch):
    """32 texts of 32 tokens; the engine's workspace shrinks in proportion to a model a thousandth of real ones."""
    texts, tokens = 32, 32
    scale_down(monkeypatch, texts * tokens * 16 * 4)
    said = ["a good film " * 12] * texts
    return Dataset(name="long", texts=said, labels=[0, 1] * (texts // 2), label_names=("a", "b")), tokens


@pytest.mark.parametrize("kind", ["bert", "llama"])
@pytest.mark.parametrize("how", ["projected", "activation"])
def test_it_takes_no_tape_of_all_positions(folder, how, monkeypatch):
    """A tape of the last layer's MLP alone, for all positions, would be several of these passes' hidden states."""
    dataset, tokens = long_texts(monkeypatch)
    texts = len(dataset.texts)

    def peak(head):
        task = ClassificationTask(str(folder), labels=2, key=Key(3), method=LoraA(head=head))
        weights = task.init()
        loss = task.loss(task.encode(dataset, max_length=tokens).batch(range(texts)), Key(0))
        measurement = Measurement(directions=rademacher, exact=frozenset(task.units[-1].names))
        made = projected(forward_mode, measurement) if how == "projected" else activation(measurement)
        made(loss, weights, Key(1))
        gc.collect()
        return tensor_peak(lambda: made(loss, weights, Key(1)))

    hidden = texts * tokens * AutoConfig.from_pretrained(folder).hidden_size * 4
    assert peak("top") <= 1.15 * peak("layer")
    # what the last attention's maps read, its keys and its values wait for the gradient; the MLP is as small as before
    assert peak("block") <= peak("top") + 6.5 * hidden


@pytest.mark.parametrize("kind", ["bert"])
@pytest.mark.parametrize("how", [projected, activation])
def test_dropout_has_one_mask_for_value_and_tangents(folder, reviews, how):
    task = ClassificationTask(
        str(folder), labels=3, key=Key(3), method=LoraA(head="top"), dtype=torch.float64, dropout=True
    )
    weights = {n: w + 0.3 * Key(5).normal(n, tuple(w.shape), like=w) for n, w in task.init().items()}
    loss = task.loss(task.encode(reviews, max_length=16).batch(range(5)), Key(0))
    exact, head = gradient(loss, weights), frozenset(task.units[-1].names)
    measurement = Measurement(directions=rademacher, exact=head)
    made = projected(forward_mode, measurement) if how is projected else activation(measurement)
    found = made(loss, weights, Key(1)).gradient
    for n in head:
        torch.testing.assert_close(found[n], exact[n])
    if how is projected:
        body = {n: w for n, w in weights.items() if n not in head}
        (v,) = measurement.draw(Key(1), weights, 1)
        slope = sum(float((exact[n] * v[n]).sum()) for n in body)
        for n in body:
            torch.testing.assert_close(found[n], slope * v[n], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("kind", ["albert"])
def test_a_model_without_a_top_is_refused(backbone):
    backbone = replace(backbone, fresh=("albert.pooler.weight",))  # then the pooler is trained as a whole
    with pytest.raises(ModelError, match=r"no maps above its last attention.*peft.head = 'layer'"):
        adapt(backbone, Lora(head="top"), Key(0))


@pytest.mark.parametrize("kind", ["bert"])
def test_a_kind_without_maps_is_refused(backbone):
    with pytest.raises(ModelError, match=r"set peft\.kind = 'lora'"):
        adapt(backbone, Vera(head="top"), Key(0))
