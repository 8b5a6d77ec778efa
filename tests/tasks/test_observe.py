"""What maps are seen to take in and give out in real models: it makes up autograd's own gradient of each map."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.tasks.test_taps import setting

from spry.core.keys import Key
from spry.estimators.amplitudes import calibrate
from spry.estimators.backprop import backprop
from spry.estimators.observe import observe
from spry.estimators.predict import predict
from spry.measure.meter import tensor_peak
from spry.tasks.kinds.lora import Lora, LoraA
from spry.tasks.kinds.lora_xs import LoraXs

KINDS = {"lora": Lora(rank=2), "lora_a": LoraA(rank=2), "lora_xs": LoraXs(rank=3)}


def maps_of(task, weights):
    return [name for unit in task.units if not unit.head for name in unit.names if weights[name].dim() == 2]


@pytest.mark.parametrize("name", KINDS)
def test_outer_products_of_tokens_sum_to_the_gradient(folder, reviews, name):
    task, loss, weights = setting(folder, reviews, KINDS[name])
    true = backprop()(loss, weights, Key(0)).gradient
    names = maps_of(task, weights)
    seen = observe(loss, weights, names)
    assert set(seen) == set(names)
    for map, uses in seen.items():
        found = sum(torch.einsum("btr,btd->rd", g, x) for x, g in uses) / 5
        torch.testing.assert_close(found, true[map])


@pytest.mark.parametrize("kind", ["bert", "albert", "llama"])
def test_texts_one_at_a_time_say_the_same_as_all_at_once(folder, reviews, kind):
    task, whole, weights = setting(folder, reviews, Lora(rank=2))
    single = replace(whole, at_once=1)
    assert len(single.parts()) == 5
    names = maps_of(task, weights)
    (far, one), (far_whole, one_whole) = (
        (calibrate(loss, weights, names, Key(1)), predict(loss, weights, names, Key(1)))
        for loss in (single, whole)
    )
    for map in names:
        assert far[map] == pytest.approx(far_whole[map], rel=1e-4)
        assert one[map].activation == pytest.approx(one_whole[map].activation, rel=1e-4)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_all_maps_are_measured_in_one_pass_of_each_text(folder, reviews, kind, monkeypatch):
    task, whole, weights = setting(folder, reviews, Lora(rank=2))
    calls, logits = [], task.logits
    monkeypatch.setattr(task, "logits", lambda *args: calls.append(1) or logits(*args))
    calibrate(replace(whole, at_once=1), weights, maps_of(task, weights), Key(1))
    assert len(calls) == 5


@pytest.mark.parametrize("kind", ["bert"])
def test_the_tape_is_that_of_one_text(folder, reviews, kind):
    task, whole, weights = setting(folder, reviews, Lora(rank=2))
    names = maps_of(task, weights)

    def peak(at_once):
        loss = replace(whole, at_once=at_once)
        return tensor_peak(lambda: calibrate(loss, weights, names, Key(1)))

    peak(None)
    assert peak(1) < 0.5 * peak(None)
