"""What is most often confused; precision, recall and F1 are held against scikit-learn's in tests/inference."""

from __future__ import annotations

import numpy as np

from spry.tasks.class_scores import most_confused


def test_the_most_confused_pairs_come_first_and_right_answers_are_none():
    confusion = np.array([[50, 2, 0], [7, 40, 1], [0, 0, 9]])
    pairs = [("b", "a", 7), ("a", "b", 2), ("b", "c", 1)]
    assert most_confused("abc", confusion, 10) == pairs
    assert most_confused("abc", confusion, 1) == pairs[:1]
