"""Sums of every task's metrics: single examples are left out, and what is left measures the same, over a wire, too."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from spry.core.errors import WireError
from spry.core.keys import Key
from spry.data.batches import EvaluationBatches
from spry.profile.task_check import usual_outputs
from spry.runtime.counts import decode_counts, encode_counts
from spry.tasks.kinds import TASKS
from spry.tasks.model_task import ModelTask
from spry.tasks.regression.metrics import RegressionMetrics
from spry.tasks.task import sums
from tests.tasks.causal_lm.setting import make_task

WORDS = [
    "a good film",
    "dull plot",
    "a very fine actor was not bad",
    "great",
    "bad and dull",
    "the plot is fine",
]
UNKNOWN = {"pearson", "spearman"}
"""Measures that need the examples themselves."""


def evaluated(task, tiny_model, draw):
    """The metrics of six examples in two batches, and none."""
    if task == "causal-lm":
        made = make_task("llama", TASKS[task](), exact="head")
    else:
        kind = TASKS[task]()
        made = ModelTask(str(tiny_model), kind, labels=usual_outputs(kind, Key(0)), key=Key(3))
    texts = [WORDS[place] for place in draw.permutation(len(WORDS))]
    outputs = len(usual_outputs(made.kind, Key(0))) or 1
    encoded = made.encode(made.kind.probe(texts, outputs, draw), max_length=16)
    return made.evaluate(made.init(), EvaluationBatches(data=encoded, batch_size=4)), made.kind.nothing()


def close(found, expected):
    for name, value in expected.values().items():
        if name in UNKNOWN or value is None:
            assert found.values()[name] is None
        else:
            assert found.values()[name] == pytest.approx(value, rel=1e-12), name
    assert (found.examples, found.loss) == (expected.examples, pytest.approx(expected.loss, rel=1e-12))


@pytest.mark.parametrize("task", TASKS)
def test_sums_measure_what_all_examples_do(task, tiny_model):
    outputs = len(usual_outputs(TASKS[task](), Key(0)))
    (one, nothing), (other, _) = (evaluated(task, tiny_model, np.random.default_rng(seed)) for seed in (0, 1))
    close(sums(one), one)
    assert sums(sums(one)).values() == sums(one).values()
    data = encode_counts(sums(one))
    assert data is not None
    read = decode_counts(data, nothing, outputs)
    assert read.values() == sums(one).values() and read.examples == one.examples
    both = decode_counts(encode_counts(sums(other)), nothing, outputs) + read
    total = sums(one).examples + sums(other).examples
    assert both.examples == total
    score = next(iter(one.values()))
    if score in {"mse", "f1", "accuracy"}:  # means over examples
        parts = [(found.values()[score], found.examples) for found in (one, other)]
        assert both.values()[score] == pytest.approx(sum_of(parts) / total)


def sum_of(parts):
    return sum(value * count for value, count in parts)


def test_what_is_of_single_examples_does_not_travel():
    metrics = RegressionMetrics(pairs=np.array([[1.0, 2.0], [0.0, 4.0]]), loss_sum=17.0)
    assert encode_counts(metrics) is None
    assert encode_counts(sums(metrics)) is not None and encode_counts(None) is None


@pytest.mark.parametrize("data", [b"", b"\x81", b"\x81\xa5pairs\x01", b"\x81\xa4none\x01"])
def test_malformed_sums_are_refused(data):
    with pytest.raises(WireError, match="metrics are malformed"):
        decode_counts(data, RegressionMetrics())


@pytest.mark.parametrize(
    ("task", "name", "sent"),
    [
        ("regression", "pairs", np.zeros((2, 3), dtype=np.int64)),
        ("multi-answer", "confusion", np.zeros((3, 3), dtype=np.int64)),
        ("multi-answer", "wrong", 3),
        ("classification", "confusion", np.zeros((3, 3), dtype=np.int64)),
        ("multi-label", "counts", np.zeros((3, 3), dtype=np.int64)),
        ("question-answering", "counted", np.zeros((1, 2), dtype=np.int64)),
        ("question-answering", "judged", np.zeros((1, 2), dtype=np.int64)),
    ],
)
def test_sums_of_another_form_are_refused_before_they_are_added(task, name, sent):
    """A client may send what it likes; adding it up would end the server's round."""
    value = sent if isinstance(sent, int) else [list(sent.shape), sent.tobytes()]
    with pytest.raises(WireError, match="metrics are malformed"):
        decode_counts(msgspec.msgpack.encode({name: value}), TASKS[task]().nothing(), outputs=2)


def test_options_without_a_question_have_no_exact_match():
    sent = {"confusion": [[2, 2], np.ones((2, 2), dtype="<i8").tobytes()]}
    read = decode_counts(msgspec.msgpack.encode(sent), TASKS["multi-answer"]().nothing())
    assert read is not None and read.values()["exact_match"] is None
