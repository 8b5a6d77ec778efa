"""SQuAD 2's measures against its own script, as transformers 4 had it, where a copy of that file is named.

    pip download --no-deps transformers==4.44.2 && unzip -q transformers-4.44.2-*.whl 'transformers/data/metrics/*'
    SQUAD_METRICS=transformers/data/metrics/squad_metrics.py SQUAD=squad2_eval.jsonl.gz pytest THIS FILE

transformers 5 has it no more, and the metric of ``evaluate`` lies on the Hub. Where a question has no answer and a
model says "the", the script calls it right, but not where it looks for the best threshold. Ours does in both places, so
no such answers are tried here.
"""

from __future__ import annotations

import gzip
import json
import os
import types
from pathlib import Path
from types import SimpleNamespace

import pytest

from spry.core.keys import Key
from spry.tasks.question_answering.metrics import (
    Judged,
    QuestionMetrics,
    exact_match,
    f1_of_words,
    normalised,
)

SCRIPT, QUESTIONS = Path(os.environ.get("SQUAD_METRICS", "")), Path(os.environ.get("SQUAD", ""))

pytestmark = pytest.mark.skipif(
    not (SCRIPT.is_file() and QUESTIONS.is_file()),
    reason="SQUAD_METRICS and SQUAD name no script and questions",
)


def official() -> types.ModuleType:
    """The functions of the file, without the tokenizer that it imports."""
    made = types.ModuleType("squad_metrics")
    text = SCRIPT.read_text(encoding="utf-8").replace("from ...models.bert import BasicTokenizer", "")
    exec(
        text.replace("from ...utils import logging", "").replace("logging.get_logger(__name__)", "None"),
        vars(made),
    )
    return made


def asked():
    with gzip.open(QUESTIONS, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def said_of(row, draw) -> str:
    """A right answer, one with words too few or too many, or words of the context."""
    words = row["context"].split()
    start = int(draw.integers(len(words)))
    some = (
        " ".join([word for word in words[start:] if normalised(word)][: int(draw.integers(1, 6))]) or "some"
    )
    right = texts(row)
    if not right or draw.random() < 0.3:
        return some
    chosen = right[int(draw.integers(len(right)))]
    return chosen if draw.random() < 0.5 else f"{chosen} {some.split()[0]}"


def texts(row) -> list[str]:
    return [answer["text"] for answer in row["answers"]]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.0])
def test_every_measure_is_the_scripts(seed, threshold):
    script, rows, draw = official(), asked(), Key(seed).generator("answers")
    margins = draw.normal(size=len(rows))
    said = [said_of(row, draw) for row in rows]
    examples = [
        SimpleNamespace(qas_id=str(n), answers=[{"text": text} for text in texts(row)])
        for n, row in enumerate(rows)
    ]
    theirs = script.squad_evaluate(
        examples, {str(n): text for n, text in enumerate(said)},
        {str(n): -float(margin) for n, margin in enumerate(margins)}, -threshold,
    )  # fmt: skip
    judged = {
        n: Judged(
            answerable=bool(texts(row)), score=float(margin), null=0.0,
            exact=exact_match(text, texts(row)), f1=f1_of_words(text, texts(row)),
        )
        for n, (row, text, margin) in enumerate(zip(rows, said, margins, strict=True))
    }  # fmt: skip
    ours = QuestionMetrics(judged=judged, threshold=threshold)
    values, details = ours.values(), ours.details()
    told = {
        "exact": values["exact_match"], "f1": values["f1"], "total": len(rows) / 100,
        "HasAns_exact": values["has_answer_exact_match"], "HasAns_f1": values["has_answer_f1"],
        "NoAns_exact": values["no_answer_exact_match"], "NoAns_f1": values["no_answer_f1"],
        "best_f1": details["best_f1"], "best_exact": details["best_exact_match"],
    }  # fmt: skip
    assert {name: theirs[name] for name in told} == pytest.approx({
        name: 100 * value for name, value in told.items()
    })
