"""The features of a head: what its last map reads, whatever the architecture; no such map is refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.models.adapters import Lora
from spry.models.adapters.registry import find_adapter
from spry.tasks.classification import ClassificationTask
from tests.models.conftest import make
from tests.models.setting import setting


@pytest.mark.parametrize("exact_part", ["head", "auto"])
def test_scores_are_the_last_map_of_the_features(folder, reviews, kind, exact_part):
    task, loss, weights = setting(folder, reviews, Lora(rank=2), micro=2, exact=exact_part)
    head = task.linear_head()
    assert not head.own and (head.classes, head.features) == tuple(weights[head.weight].shape)
    features = head.read(weights, loss.batch)
    assert features.shape == (5, head.features)
    bias = None if head.bias is None else weights[head.bias]
    assert (head.bias is None) == (
        kind in {"gpt2", "gpt_neox", "opt", "llama", "mistral", "qwen2", "gemma", "phi"}
    )
    torch.testing.assert_close(
        F.linear(features, weights[head.weight], bias), task.logits(weights, loss.batch)
    )


@pytest.mark.parametrize("kind", ["roberta"])
@pytest.mark.parametrize("adapter", ["bitfit", "norm", "ia3", "vera"])
def test_every_adapter_trains_it(folder, reviews, adapter):
    task, loss, weights = setting(folder, reviews, find_adapter(adapter)())
    head = task.linear_head()
    scores = F.linear(head.read(weights, loss.batch), weights[head.weight], weights[head.bias])
    torch.testing.assert_close(scores, task.logits(weights, loss.batch))


def test_reading_leaves_the_task_as_it_was(task, batch, weights):
    before = task.logits(weights, batch)
    task.linear_head().read(weights, batch)
    assert torch.equal(task.logits(weights, batch), before)
    head = task.linear_head()
    single = head.read(weights, {name: value[:1] for name, value in batch.items()})
    torch.testing.assert_close(single, head.read(weights, batch)[:1])
    pairs = {**batch, "token_type_ids": (torch.arange(batch["input_ids"].shape[1]) > 2).long().expand(5, -1)}
    assert head.read(weights, pairs).shape == (5, head.features)


def test_half_precision_gives_float32_features(tiny_model, reviews):
    task = ClassificationTask(str(tiny_model), labels=reviews.label_names, dtype=torch.bfloat16)
    batch = task.encode(reviews).batch(range(5))
    assert task.linear_head().read(task.init(), batch).dtype == torch.float32


def test_dropout_does_not_reach_the_features(tiny_model, reviews):
    task = ClassificationTask(str(tiny_model), labels=reviews.label_names, dropout=True)
    batch, head = task.encode(reviews).batch(range(5)), task.linear_head()
    assert torch.equal(head.read(task.init(), batch), head.read(task.init(), batch))


def test_a_trained_head_is_the_models_own(reviews, tiny_tokenizer):
    task = ClassificationTask(make("bert"), labels=reviews.label_names, tokenizer=tiny_tokenizer)
    assert task.linear_head().own


class Capped(torch.nn.Linear):
    """A head that limits its scores."""

    def forward(self, x):
        return torch.tanh(super().forward(x))


class Squared(torch.nn.Bilinear):
    """A head that is no linear map."""

    def forward(self, x):
        return super().forward(x, x)


def test_scores_that_are_no_map_of_the_features_are_refused(reviews, tiny_tokenizer):
    model = make("bert")
    model.classifier = Capped(16, 3)
    task = ClassificationTask(model, labels=reviews.label_names, tokenizer=tiny_tokenizer, key=Key(0))
    with pytest.raises(ModelError, match="not what its head's last map gives"):
        task.linear_head()
    model = make("bert")
    model.classifier = Squared(16, 16, 3)
    task = ClassificationTask(model, labels=reviews.label_names, tokenizer=tiny_tokenizer)
    with pytest.raises(ModelError, match="does not end in a linear map"):
        task.linear_head()
