"""Counts of predicted tokens, against torchmetrics."""

import math

import numpy as np
import pytest
import torch

from spry.tasks.causal_lm.metrics import LanguageMetrics, Sample, answered, unigram_perplexity


def test_perplexity_and_accuracy_are_those_of_torchmetrics():
    from torchmetrics.classification import MulticlassAccuracy
    from torchmetrics.text import Perplexity

    torch.manual_seed(0)
    logits, labels = torch.randn(4, 7, 11), torch.randint(0, 11, (4, 7))
    labels[0, 3:] = -100
    total = LanguageMetrics()
    for row, target in zip(logits, labels, strict=True):
        kept = target != -100
        losses = torch.nn.functional.cross_entropy(row[kept], target[kept], reduction="none")
        total += LanguageMetrics(
            examples=1,
            tokens=int(kept.sum()),
            loss_sum=float(losses.sum()),
            correct=int((row.argmax(-1) == target)[kept].sum()),
        )
    values = total.values()
    assert values["perplexity"] == pytest.approx(
        float(Perplexity(ignore_index=-100)(logits, labels)), rel=1e-5
    )
    metric = MulticlassAccuracy(11, average="micro", ignore_index=-100)
    assert values["token_accuracy"] == pytest.approx(float(metric(logits.flatten(0, 1), labels.flatten())))


def test_nothing_counted():
    empty = LanguageMetrics()
    assert not empty and math.isnan(empty.loss)
    assert empty.values() == {"perplexity": None, "token_accuracy": None}
    assert empty + empty == empty


def test_a_hopeless_loss_stays_a_number():
    hopeless = LanguageMetrics(examples=1, tokens=1, loss_sum=1e6)
    assert math.isfinite(hopeless.perplexity)


def test_answers():
    samples = tuple(
        Sample(prompt="?", expected="Sci/Tech", answer=a) for a in (" sci/tech\n", "Sports", "Sci / Tech")
    )
    found = answered(samples) + LanguageMetrics(examples=3, tokens=2)
    assert found.values()["exact_match"] == pytest.approx(1 / 3)
    assert found.details()["samples"][1] == {"prompt": "?", "expected": "Sci/Tech", "answer": "Sports"}


def test_unigram_perplexity_is_that_of_smoothed_counts():
    train, test = np.array([0, 0, 1]), np.array([0, 1, 2])
    expected = math.exp(-(math.log(3 / 6) + math.log(2 / 6) + math.log(1 / 6)) / 3)
    assert unigram_perplexity(train, test, 3) == pytest.approx(expected)
    assert unigram_perplexity(train, test[:0], 3) is None
    assert unigram_perplexity(train[:0], test, 3) == pytest.approx(3)
