"""LoRA-XS: few weights, whose slopes and gradients are autograd's, and which plain peft reads as LoRA."""

from __future__ import annotations

import pytest
import torch

from spry.contrib.lora_xs import LoraXs
from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.core.params import add, dot, size, tree_map
from spry.core.units import names_of
from spry.estimators.projected import SlopeSpec, projected
from spry.estimators.slopes import central_difference, forward_mode
from spry.forward import jvp
from spry.models.adapt import adapt
from spry.tasks.classification import ClassificationTask
from tests.laws.problem import gradient
from tests.models.setting import setting

LAST = ("layer.1.attention.self.query", "layer.1.attention.self.value", "layer.1.intermediate.dense")
"""Maps of the upper block of the tiny BERT."""
XS = LoraXs(rank=3, alpha=3.0)
UPPER = LoraXs(rank=3, alpha=3.0, targets=LAST)

bert = pytest.mark.parametrize("kind", ["bert"])
several = pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])


def few(task):
    """The square matrices' names."""
    return [name for unit in task.units if not unit.head for name in unit.names]


@several
def test_the_start_is_the_pretrained_model_and_squares_are_trained(backbone):
    inputs = {"input_ids": torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]]), "attention_mask": torch.ones(2, 4)}
    with torch.no_grad():
        before = backbone.model(**inputs).logits
        adapted = adapt(backbone, XS, Key(0))
        torch.testing.assert_close(adapted.module(**inputs).logits, before)
    *body, head = adapted.units
    assert head.head
    assert body
    assert all(unit.size == 9 for unit in body)
    assert all(adapted.module.get_parameter(n).shape == (3, 3) for n in names_of(body))


@several
@pytest.mark.parametrize("exact", ["head", "nothing"])
def test_slopes_are_autograds(folder, kind, reviews, exact):
    task, loss, weights = setting(folder, reviews, XS, exact=exact)
    own = {n: weights[n] for n in few(task)}
    rest = {n: w for n, w in weights.items() if n not in own}
    v = [{n: Key(k).normal(n, tuple(w.shape), like=w) for n, w in own.items()} for k in range(2)]
    _, slopes = jvp(lambda params: loss({**rest, **params}), own, v)
    true = gradient(lambda params: loss({**rest, **params}), own)
    precision = 1e-4 if kind == "llama" else 1e-8  # its RMS norm computes in float32 whatever the weights are
    assert slopes.tolist() == pytest.approx([dot(true, one) for one in v], rel=precision)


@bert
def test_in_the_upper_block_finite_differences_come_to_the_same_slopes(folder, reviews):
    """What forward mode and FedMeZO's central differences tell of the same directions differs by h^2."""
    task, loss, weights = setting(folder, reviews, UPPER)
    own = {n: weights[n] for n in few(task)}
    assert size(own) == 27
    spec, key = SlopeSpec(), Key(2)
    exactly = projected(forward_mode, spec, 4)(loss, own, key)
    for h in (1e-2, 1e-3):
        nearly = projected(central_difference(h), spec, 4)(loss, own, key)
        assert nearly.slopes.tolist() == pytest.approx(exactly.slopes.tolist(), rel=1e3 * h**2, abs=h**2)


@bert
def test_an_update_is_w_plus_u_r_v(folder, reviews):
    """The same logits as the base model with dense weights, multiplied out by hand."""
    task, _, weights = setting(folder, reviews, UPPER)
    batch = task.encode(reviews, max_length=16).batch(range(5))
    own = {n: weights[n] for n in few(task)}
    with torch.no_grad():
        adapted = task.logits({**task.init(), **own}, batch)
        for name, r in own.items():
            layer = task.module.get_submodule(name.split(".lora_A")[0])
            between, up = layer.lora_A["default"], layer.lora_B["default"]
            layer.get_base_layer().weight.add_(up.weight @ r @ between.right)  # alpha / rank is 1
        torch.testing.assert_close(task.logits(task.init(), batch), adapted)


@several
def test_it_is_saved_as_lora_that_peft_reads(folder, tmp_path, reviews):
    from peft import PeftModel

    from tests.tasks.test_classification import base_model

    task = ClassificationTask(str(folder), labels=3, key=Key(3), adapter=XS)
    weights = tree_map(lambda w: w + 0.3 * Key(5).normal("w", tuple(w.shape)), task.init())
    batch = task.encode(reviews, max_length=16).batch(range(5))
    task.save_adapter(weights, tmp_path / "adapter")
    inputs = {n: value for n, value in batch.items() if n != "labels"}
    with torch.no_grad():
        read = PeftModel.from_pretrained(base_model(folder), tmp_path / "adapter").eval()
        torch.testing.assert_close(read(**inputs).logits, task.logits(weights, batch), rtol=1e-5, atol=1e-5)


@bert
def test_columns_are_singular_vectors_by_numpys_svd(folder, reviews):
    import numpy as np

    task, _, _ = setting(folder, reviews, UPPER)
    for name in few(task):
        layer = task.module.get_submodule(name.split(".lora_A")[0])
        w = layer.get_base_layer().weight.double().numpy()
        u, _, vt = np.linalg.svd(w)
        up, right = layer.lora_B["default"].weight.double().numpy(), layer.lora_A["default"].right.numpy()
        length = (w.shape[0] / 9) ** 0.5
        np.testing.assert_allclose(np.abs(up / length), np.abs(u[:, :3]), atol=1e-8)
        np.testing.assert_allclose(np.abs(right), np.abs(vt[:3]), atol=1e-8)


@bert
def test_a_rank_that_no_weight_has_is_refused(backbone):
    with pytest.raises(ModelError, match=r"peft.rank is 17.*Allowed: 1 to 16"):
        adapt(backbone, LoraXs(rank=17), Key(0))


@bert
def test_one_text_of_one_word_has_finite_slopes(folder, reviews):
    task, _, weights = setting(folder, reviews, UPPER)
    batch = task.encode(reviews, max_length=16).batch([3])
    own = {n: weights[n] for n in few(task)}
    found = projected(forward_mode, SlopeSpec(), 1)(task.loss(batch, Key(0)), own, Key(0))
    assert torch.isfinite(found.slopes).all()
    assert all(torch.isfinite(w).all() for w in add(own, found.gradient).values())
