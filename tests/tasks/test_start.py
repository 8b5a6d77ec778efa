"""Training may begin with an adapter's weights: the task then is what was saved, or says why it cannot be."""

from __future__ import annotations

import pytest
import torch

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.models.adapters import BitFit, Ia3, Lora, Norm, Vera
from spry.tasks.classification import ClassificationTask
from tests.models.conftest import make
from tests.tasks.test_adapter_folder import TEXTS, ours, save_model, trained

LABELS = ("d", "c", "b", "a")
KINDS = {
    "lora": Lora(rank=2, alpha=4.0),
    "vera": Vera(rank=5),
    "ia3": Ia3(),
    "bitfit": BitFit(),
    "norm": Norm(),
}


def started(model, folder, adapter=None, labels=("a", "b", "c", "d"), **settings):
    adapter = adapter or Lora(rank=2, alpha=4.0)
    return ClassificationTask(model, labels=labels, key=Key(99), adapter=adapter, start=folder, **settings)


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_starts_where_the_adapter_ended_whatever_its_own_key_and_order_of_classes(
    tiny_model, tmp_path, kind
):
    task, weights = trained(str(tiny_model), LABELS, KINDS[kind])
    task.save_adapter(weights, tmp_path)
    new = started(str(tiny_model), tmp_path, KINDS[kind])
    assert new.backbone.label_names == LABELS
    assert new.init().keys() == weights.keys()
    assert all(new.init()[name].equal(weight) for name, weight in weights.items())
    assert ours(new, {}, TEXTS) == ours(new, new.init(), TEXTS)
    for row, wanted in zip(ours(new, new.init(), TEXTS), ours(task, weights, TEXTS), strict=True):
        assert row == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_decoders_and_the_copy_of_a_base_beside_an_adapter(tmp_path, tiny_tokenizer, kind):
    model = save_model(kind, tmp_path / "model", tiny_tokenizer)
    task, weights = trained(model, LABELS)
    task.save_adapter(weights, tmp_path / "first")
    second = started(str(tmp_path / "first" / "base"), tmp_path / "first")
    second.save_adapter(second.init(), tmp_path / "second")
    third = started(model, tmp_path / "second")
    assert all(third.init()[name].equal(weight) for name, weight in weights.items())


def test_half_precision_loses_no_bit_of_the_weights_that_are_trained(tiny_model, tmp_path):
    task, weights = trained(str(tiny_model), LABELS, dtype=torch.bfloat16)
    task.save_adapter(weights, tmp_path)
    new = started(str(tiny_model), tmp_path, dtype=torch.bfloat16).init()
    assert all(
        new[name].equal(weight) and new[name].dtype == torch.float32 for name, weight in weights.items()
    )


def test_a_model_that_was_given_as_an_object_is_known_again(tmp_path, tiny_tokenizer):
    task, weights = trained(make("bert", 4), 4, tokenizer=tiny_tokenizer)
    task.save_adapter(weights, tmp_path)
    new = started(make("bert", 4), tmp_path, labels=4, tokenizer=tiny_tokenizer)
    assert all(new.init()[name].equal(weight) for name, weight in weights.items())
    other = make("bert", 4)
    with torch.no_grad():
        other.bert.embeddings.word_embeddings.weight += 1
    with pytest.raises(ModelError, match="has other weights"):
        started(other, tmp_path, labels=4, tokenizer=tiny_tokenizer)


@pytest.mark.parametrize(
    ("labels", "settings", "says"),
    [
        (
            ("a", "b", "c", "e"),
            {},
            r"4 classes apart; the data has other classes \(not known there: e; missing here: d",
        ),
        (("a", "b", "c"), {}, "missing here: d"),
        (3, {}, "the data has 3 classes"),
        (LABELS, {"adapter": Lora(rank=3, alpha=4.0)}, "peft.rank was 2, is 3"),
        (LABELS, {"adapter": Lora(rank=2)}, "peft.alpha was 4.0, is 1.0"),
        (
            LABELS,
            {"adapter": Lora(rank=2, alpha=4.0, targets=("query",))},
            r"peft.targets was \['query', 'value'\], is",
        ),
        (LABELS, {"adapter": Norm()}, "peft.kind was LORA, is LN_TUNING"),
        (LABELS, {"adapter": BitFit()}, "bias was none, is all"),
        (LABELS, {"exact": "last_block"}, "peft.targets was"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_difference(tiny_model, tmp_path, labels, settings, says):
    task, weights = trained(str(tiny_model), LABELS)
    task.save_adapter(weights, tmp_path)
    with pytest.raises(ModelError, match=says) as caught:
        started(str(tiny_model), tmp_path, labels=labels, **settings)
    assert "\n" not in str(caught.value)


def test_another_base_is_refused_and_the_right_one_named(tiny_model, tmp_path, tiny_tokenizer):
    task, weights = trained(str(tiny_model), LABELS)
    task.save_adapter(weights, tmp_path / "adapter")
    other = save_model("bert", tmp_path / "other", tiny_tokenizer)
    copy = tmp_path / "adapter" / "base"
    with pytest.raises(
        ModelError, match=rf"other weights. Set model.name to that base, of which {copy} is a copy"
    ):
        started(other, tmp_path / "adapter")


def test_an_adapter_is_no_base_model(tiny_model, tmp_path):
    task, weights = trained(str(tiny_model), LABELS)
    task.save_adapter(weights, tmp_path)
    with pytest.raises(ModelError, match=r"is an adapter, not a model. To train it further, set start to it"):
        ClassificationTask(str(tmp_path), labels=4)
