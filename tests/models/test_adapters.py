"""Every kind of PEFT weights: starts at the pretrained model, has exact slopes, and is read back by ``peft``."""

from __future__ import annotations

import pytest
import torch
from spry.estimators.activation import activation
from tests.laws.problem import gradient
from tests.tasks.test_taps import check_unbiased, setting

from spry.contrib.lora_xs import LoraXs
from spry.contrib.singular import base_weight
from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.core.params import dot, size
from spry.core.units import awake, names_of
from spry.estimators.directions import rademacher
from spry.estimators.projected import Measurement
from spry.forward import jvp
from spry.models.adapt import adapt
from spry.models.adapters.bitfit import BitFit, Norm
from spry.models.adapters.ia3 import Ia3
from spry.models.adapters.lora import Lora, LoraA
from spry.models.adapters.vera import Vera
from spry.tasks.classification import ClassificationTask

KINDS = {
    "lora": Lora(rank=2, alpha=4.0),
    "lora_a": LoraA(rank=2, alpha=4.0),
    "lora_xs": LoraXs(rank=3, alpha=4.0),
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
    assert body
    assert head.head
    assert not any("lora" in n or "vera" in n or "ia3" in n or "ln_tuning" in n for n in head.names)
    assert not any("original_module" in n for n in names_of(adapted.units))
    every_name = names_of(adapted.units)
    assert len(set(every_name)) == len(every_name)


@every
def test_the_adapter_is_read_by_peft_and_gives_the_same_logits(folder, name, tmp_path, reviews, capfd):
    from peft import PeftModel
    from tests.tasks.test_classification import base_model

    task = ClassificationTask(str(folder), labels=3, key=Key(3), method=KINDS[name])
    weights = {n: w + 0.3 * Key(5).normal(n, tuple(w.shape)) for n, w in task.init().items()}
    batch = task.encode(reviews, max_length=16).batch(range(5))
    task.save_adapter(weights, tmp_path / "adapter")
    assert capfd.readouterr() == ("", "")
    inputs = {n: value for n, value in batch.items() if n != "labels"}
    with torch.no_grad():
        read = PeftModel.from_pretrained(base_model(folder), tmp_path / "adapter").eval()
        torch.testing.assert_close(read(**inputs).logits, task.logits(weights, batch), rtol=1e-5, atol=1e-5)
        alone = {n: w for n, w in weights.items() if n not in task.units[-1].names}
        assert not task.logits(alone, batch).allclose(task.logits({}, batch))  # its weights matter


@every
def test_slopes_are_exact(folder, name, kind, reviews):
    if (name, kind) == ("ia3", "deberta-v2"):
        pytest.skip("its attention adds the scores of moved keys in place to those of keys that are not")
    _, loss, weights = setting(folder, reviews, KINDS[name])
    v = [{n: Key(k).normal(n, tuple(w.shape), like=w) for n, w in weights.items()} for k in range(2)]
    _, slopes = jvp(loss, weights, v)
    exact = gradient(loss, weights)
    precision = 1e-4 if kind == "llama" else 1e-8  # its RMS norm computes in float32 whatever the weights are
    assert slopes.tolist() == pytest.approx([dot(exact, one) for one in v], rel=precision)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("name", KINDS)
def test_what_sleeps_has_no_gradient_and_wakes_with_the_other(folder, reviews, name):
    """Judged by autograd at the initial weights, which ``setting`` moves away from."""
    task, loss, moved = setting(folder, reviews, KINDS[name])
    start = {n: w.double() for n, w in task.init().items()}
    exact, body = gradient(loss, start), [unit for unit in task.units if not unit.head]
    asleep = set(names_of(body)) - set(awake(body, start))
    assert len(asleep) == (len(body) if name in {"lora", "vera"} else 0)
    assert not any(exact[n].any() for n in asleep)
    assert all(exact[n].any() for n in {other for unit in body for other in unit.sleeps.values()})
    assert awake(body, moved) == names_of(body)


@pytest.mark.parametrize("kind", ["bert"])
def test_lora_xs_stands_between_singular_vectors(backbone):
    adapted = adapt(backbone, LoraXs(rank=3, alpha=6.0), Key(0))
    for unit in adapted.units[:-1]:
        (name,) = unit.names
        layer = adapted.module.get_submodule(f"base_model.model.{unit.name}")
        weight, square = base_weight(layer), torch.arange(9.0).view(3, 3) / 9
        left, _, right = torch.linalg.svd(weight)
        update = adapted.kind.plain(adapted.module, {name: square})[name]
        whole = layer.scaling["default"] * layer.lora_B["default"].weight @ update
        inner = left[:, :3].T @ whole @ right[:3].T
        # U and V are unique up to signs; what lies outside of them is nothing
        torch.testing.assert_close(inner.abs(), 2 * (16 / 9) ** 0.5 * square, atol=2e-3, rtol=0)
        torch.testing.assert_close(whole.norm(), inner.norm(), atol=1e-3, rtol=0)
    assert size({n: adapted.module.get_parameter(n) for n in names_of(adapted.units[:-1])}) == 4 * 9


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_outputs_of_lora_xs_can_be_moved(folder, reviews):
    task, loss, weights = setting(folder, reviews, LoraXs(rank=2))
    head = frozenset(task.units[-1].names)
    check_unbiased(activation(Measurement(directions=rademacher, exact=head), 8), loss, weights)


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
