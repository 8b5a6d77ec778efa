"""What an evaluation of predicted tokens counts, so that parts can be added up: batches, clients, rounds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST = 700.0
"""The largest mean loss whose exponential is a number."""
SAMPLES = 5
"""Answers that a log keeps of an evaluation."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A prompt with what was expected and what the model answered."""

    prompt: str
    expected: str
    answer: str

    @property
    def exact(self) -> bool:
        """Whether the answer is the expected one but for case and spaces."""
        return _bare(self.answer) == _bare(self.expected)


def _bare(text: str) -> str:
    return " ".join(text.split()).casefold()


@dataclass(frozen=True, kw_only=True)
class LanguageMetrics:
    """Counts over predicted tokens; add two to merge them, false if there are none.

    Args:
        examples: Rows that were evaluated.
        tokens: Tokens that were predicted, over which losses are summed.
        loss_sum: Of their cross-entropies, in nats.
        correct: Tokens to which the model gave the highest score of all.
        answered: Prompts that the model answered freely.
        exact: Answers among them that are the expected ones.
        samples: Some of them.
    """

    examples: int = 0
    tokens: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    answered: int = 0
    exact: int = 0
    samples: tuple[Sample, ...] = ()

    def __bool__(self) -> bool:
        return self.examples > 0

    def __add__(self, other: LanguageMetrics) -> LanguageMetrics:
        return LanguageMetrics(
            examples=self.examples + other.examples,
            tokens=self.tokens + other.tokens,
            loss_sum=self.loss_sum + other.loss_sum,
            correct=self.correct + other.correct,
            answered=self.answered + other.answered,
            exact=self.exact + other.exact,
            samples=(*self.samples, *other.samples)[:SAMPLES],
        )

    def values(self) -> dict[str, float | None]:
        """Perplexity and token accuracy, and, of free answers, exact match."""
        found = {"perplexity": self.perplexity, "token_accuracy": self.token_accuracy}
        found |= {"exact_match": self.exact_match} if self.answered else {}
        return {name: None if math.isnan(value) else value for name, value in found.items()}

    def details(self) -> dict[str, Any]:
        """The samples, which a log keeps beside the score."""
        told = [{"prompt": s.prompt, "expected": s.expected, "answer": s.answer} for s in self.samples]
        return {"tokens": self.tokens} | ({"samples": told} if told else {})

    def sums(self) -> LanguageMetrics:
        """The same without samples."""
        return replace(self, samples=())

    @property
    def loss(self) -> float:
        """Mean cross-entropy of a token, in nats; NaN without tokens."""
        return self.loss_sum / self.tokens if self.tokens else math.nan

    @property
    def perplexity(self) -> float:
        """``exp(loss)``, at least 1; NaN without tokens."""
        return math.exp(min(self.loss, _MOST)) if self.tokens else math.nan

    @property
    def token_accuracy(self) -> float:
        """Share of tokens that have the highest score of all, from 0 to 1; NaN without tokens."""
        return self.correct / self.tokens if self.tokens else math.nan

    @property
    def exact_match(self) -> float:
        """Share of exact answers, from 0 to 1; NaN without answers."""
        return self.exact / self.answered if self.answered else math.nan


def answered(samples: tuple[Sample, ...]) -> LanguageMetrics:
    """Count free answers."""
    exact = sum(sample.exact for sample in samples)
    return LanguageMetrics(answered=len(samples), exact=exact, samples=samples[:SAMPLES])


def unigram_perplexity(
    train: NDArray[np.integer], test: NDArray[np.integer], vocabulary: int
) -> float | None:
    """Perplexity of tokens if each is as frequent as in the training part, whatever stands before it.

    Each of the V tokens counts once more than it was seen, so that none is impossible:
    ``p(t) = (count(t) + 1) / (N + V)``.

    Args:
        train: Tokens that are predicted in training, shape (N,).
        test: The same of the test part; None is returned if there are none.
        vocabulary: V.
    """
    if not len(test):
        return None
    counts = np.bincount(train, minlength=vocabulary)
    logs = np.log(counts[test] + 1.0) - math.log(len(train) + len(counts))
    return math.exp(min(-float(logs.mean()), _MOST))
