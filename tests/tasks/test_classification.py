from __future__ import annotations

import math
import threading

import pytest
import torch
import torch.nn.functional as F

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.core.params import dot
from spry.core.units import names_of
from spry.forward.functional import jvp
from spry.models.adapters import Lora
from spry.tasks.classification import ClassificationTask


def gradient(loss, weights, **settings) -> dict[str, torch.Tensor]:
    leaves = {name: value.clone().requires_grad_() for name, value in weights.items()}
    return dict(
        zip(leaves, torch.autograd.grad(loss(leaves, **settings), list(leaves.values())), strict=True)
    )


def draw(weights, seed: int) -> dict[str, torch.Tensor]:
    return {name: Key(seed).normal(name, tuple(value.shape), like=value) for name, value in weights.items()}


def test_init_gives_copies_of_all_units_weights(task):
    weights = task.init()
    assert tuple(weights) == names_of(task.units)
    for value in weights.values():
        value.fill_(7.0)
    assert not any(value.max() > 6 for value in task.init().values())


def test_the_loss_is_the_mean_cross_entropy_of_the_models_logits(task, batch, weights):
    found = task.loss(batch, Key(0))(weights)
    with torch.no_grad():
        for name, value in weights.items():
            task.module.get_parameter(name).copy_(value)
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        expected = F.cross_entropy(task.module(**inputs).logits, batch["labels"])
    assert found.equal(expected)
    assert found.shape == ()


def test_slopes_are_inner_products_with_the_gradient(task, batch, weights):
    loss = task.loss(batch, Key(0))
    exact = gradient(loss, weights)
    directions = [draw(weights, seed) for seed in range(3)]
    value, slopes = jvp(loss, weights, directions)
    assert value.item() == pytest.approx(loss(weights).item(), rel=1e-12)
    for slope, direction in zip(slopes.tolist(), directions, strict=True):
        assert slope == pytest.approx(dot(exact, direction), rel=1e-9)


def test_the_gradient_agrees_with_finite_differences(task, batch, weights):
    loss, direction, h = task.loss(batch, Key(0)), draw(weights, 0), 1e-5
    moved = [loss({n: w + s * h * direction[n] for n, w in weights.items()}).item() for s in (1, -1)]
    assert dot(gradient(loss, weights), direction) == pytest.approx((moved[0] - moved[1]) / (2 * h), rel=1e-6)


def test_weights_left_out_keep_the_models_own_values(task, batch, weights):
    some = {name: weights[name] for name in task.units[0].names}
    loss = task.loss(batch, Key(0))
    assert loss(some).equal(loss({**task.init(), **some}))
    assert gradient(loss, some).keys() == some.keys()
    with pytest.raises(ModelError, match="no weight 'classifier'"):
        loss({"classifier": torch.zeros(1)})


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 99])
@pytest.mark.parametrize("with_dropout", [False, True])
def test_micro_batches_add_up_to_the_batch(task, batch, weights, size, with_dropout):
    task.dropout = with_dropout
    whole = task.loss(batch, Key(0))(weights).item()
    task.micro_batch_size = size
    loss = task.loss(batch, Key(0))
    parts = loss.microbatches()
    assert len(parts) == math.ceil(5 / size)
    assert sum(share for share, _ in parts) == pytest.approx(1.0)
    total = sum(share * part(weights).item() for share, part in parts)
    assert loss(weights).item() == pytest.approx(total, rel=1e-12)
    if not with_dropout:
        assert total == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("with_dropout", [False, True])
@pytest.mark.parametrize("size", [None, 2])
def test_checkpointing_changes_neither_loss_nor_gradient(task, batch, weights, with_dropout, size):
    task.dropout, task.micro_batch_size = with_dropout, size
    loss = task.loss(batch, Key(0))
    assert loss(weights, checkpoint=True).equal(loss(weights))
    plain, found = gradient(loss, weights), gradient(loss, weights, checkpoint=True)
    for name, value in plain.items():
        torch.testing.assert_close(found[name], value, rtol=1e-12, atol=1e-12)


def test_dropout_obeys_the_key_in_every_kind_of_pass(tiny_model, reviews, batch, weights):
    task = ClassificationTask(
        str(tiny_model), labels=3, key=Key(3), adapter=Lora(dropout=0.3), dropout=True, dtype=torch.float64
    )
    loss, other = task.loss(batch, Key(0)), task.loss(batch, Key(1))
    state = torch.get_rng_state()
    assert loss(weights).equal(loss(weights))
    assert torch.get_rng_state().equal(state)
    assert not loss(weights).equal(other(weights))
    dropped = loss(weights)
    task.dropout = False
    assert not loss(weights).equal(dropped)
    task.dropout = True
    direction = draw(weights, 2)
    value, slopes = jvp(loss, weights, [direction])
    assert value.item() == pytest.approx(loss(weights).item(), rel=1e-12)
    assert slopes.item() == pytest.approx(dot(gradient(loss, weights), direction), rel=1e-9)
    assert task.evaluate(weights, [batch]) == task.evaluate(weights, [batch])
    assert not any(child.training for child in task.module.modules())


def test_evaluation_counts_every_example_once(task, batch, weights):
    found = task.evaluate(weights, [batch])
    with torch.no_grad():
        logits = task.logits(weights, batch)
    right = int((logits.argmax(1) == batch["labels"]).sum())
    assert (found.examples, found.correct) == (5, right)
    assert found.loss == pytest.approx(task.loss(batch, Key(0))(weights).item(), rel=1e-6)
    assert found.confusion.sum(axis=1).tolist() == [2, 2, 1]
    rows = [{name: value[row : row + 1] for name, value in batch.items()} for row in range(5)]
    merged = task.evaluate(weights, rows)
    assert (merged.examples, merged.correct) == (found.examples, found.correct)
    assert merged.loss == pytest.approx(found.loss, rel=1e-6)
    assert not task.evaluate(weights, [])


def test_nothing_that_a_task_does_changes_its_module(task, batch, weights, tmp_path):
    before = {name: value.clone() for name, value in task.module.state_dict().items()}
    loss = task.loss(batch, Key(0))
    task.dropout = True
    gradient(loss, weights, checkpoint=True)
    jvp(loss, weights, [draw(weights, 0)])
    task.evaluate(weights, [batch])
    task.save_adapter(weights, tmp_path)
    after = task.module.state_dict()
    assert before.keys() == after.keys()
    assert all(value.equal(after[name]) for name, value in before.items())
    assert not any(weight.requires_grad or weight.grad is not None for weight in task.module.parameters())


@pytest.mark.parametrize("adapter", [Lora])
def test_the_adapter_is_read_by_peft_and_gives_the_same_logits(
    folder, kind, adapter, tmp_path, reviews, capfd
):
    from peft import PeftModel

    task = ClassificationTask(
        str(folder), labels=reviews.label_names, key=Key(3), adapter=adapter(rank=2, alpha=4.0)
    )
    weights = {n: w + 0.3 * Key(5).normal(n, tuple(w.shape)) for n, w in task.init().items()}
    batch = task.encode(reviews, max_length=16).batch(range(5))
    task.save_adapter(weights, tmp_path / "adapter")
    assert capfd.readouterr() == ("", "")
    base = base_model(folder)
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        read = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
        torch.testing.assert_close(read(**inputs).logits, task.logits(weights, batch), rtol=1e-5, atol=1e-6)
        assert not task.logits(weights, batch).equal(task.logits({}, batch))


def base_model(folder):
    from transformers import AutoModelForSequenceClassification

    base = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    base.config.pad_token_id = 0
    return base


@pytest.mark.parametrize("kind", ["bert"])
def test_a_pooler_that_the_folder_lacks_is_trained_and_saved(folder, tiny_tokenizer, tmp_path, reviews):
    from peft import PeftModel
    from transformers import BertModel

    BertModel.from_pretrained(folder, add_pooling_layer=False).save_pretrained(folder)
    task = ClassificationTask(str(folder), labels=3, key=Key(3))
    assert any("pooler" in name for name in task.units[-1].names)
    batch = task.encode(reviews, max_length=16).batch(range(5))
    task.save_adapter(task.init(), tmp_path / "adapter")
    read = PeftModel.from_pretrained(base_model(folder), tmp_path / "adapter").eval()
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        torch.testing.assert_close(read(**inputs).logits, task.logits(task.init(), batch))


def test_two_threads_may_share_a_task(task, batch, weights):
    task.dropout = True
    other = {name: value + 0.1 for name, value in weights.items()}
    expected = [task.loss(batch, Key(seed))(own).item() for seed, own in enumerate((weights, other))]
    found: list[list[float]] = [[], []]

    def work(seed: int, own) -> None:
        found[seed] = [task.loss(batch, Key(seed))(own).item() for _ in range(10)]

    threads = [threading.Thread(target=work, args=(seed, own)) for seed, own in enumerate((weights, other))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[value] * 10 for value in expected]


@pytest.mark.parametrize("length", [0, -1, 33])
def test_a_length_the_model_does_not_take_is_refused(task, reviews, length):
    with pytest.raises(ModelError, match=rf"max_length is {length}. Allowed: 1 to 32"):
        task.encode(reviews, max_length=length)


def test_a_micro_batch_below_one_is_refused(tiny_model):
    with pytest.raises(ModelError, match=r"micro_batch_size is 0. Allowed: at least 1"):
        ClassificationTask(str(tiny_model), labels=2, key=Key(0), micro_batch_size=0)


def test_half_precision_gives_full_precision_losses(tiny_model, reviews):
    task = ClassificationTask(str(tiny_model), labels=3, key=Key(0), dtype=torch.bfloat16)
    batch = task.encode(reviews, max_length=16).batch(range(5))
    assert task.backbone.model.dtype == torch.bfloat16
    assert task.loss(batch, Key(0))(task.init()).dtype == torch.float32
    assert task.evaluate(task.init(), [batch]).examples == 5


def test_every_architecture_has_exact_slopes(folder, kind, reviews):
    task = ClassificationTask(str(folder), labels=3, key=Key(3), adapter=Lora(rank=2), dtype=torch.float64)
    weights = {n: w + 0.3 * Key(5).normal(n, tuple(w.shape), like=w) for n, w in task.init().items()}
    assert all(value.dtype == torch.float64 for value in weights.values())
    loss = task.loss(task.encode(reviews, max_length=16).batch(range(5)), Key(0))
    directions = [draw(weights, seed) for seed in range(2)]
    _, slopes = jvp(loss, weights, directions)
    exact = gradient(loss, weights, checkpoint=True)
    for slope, direction in zip(slopes.tolist(), directions, strict=True):
        # transformers' RMS norm computes in float32 whatever the weights are
        exactness = 1e-4 if kind in {"gemma", "llama", "mistral", "qwen2"} else 1e-8
        assert slope == pytest.approx(dot(exact, direction), rel=exactness)
