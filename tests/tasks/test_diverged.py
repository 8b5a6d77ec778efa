"""A model whose scores are no numbers is evaluated and asked like any other, by every task."""

from __future__ import annotations

import json
import math

import pytest
import torch

from spry.core.keys import Key
from spry.data.batches import EvaluationBatches
from spry.inference.outputs import to_csv
from spry.profile.task_check import usual_outputs
from spry.tasks.kinds import TASKS, make_task
from spry.tasks.model_task import ModelTask
from tests.language import tokenizer
from tests.models.conftest import make
from tests.tasks.causal_lm.setting import base
from tests.tasks.question_answering.models import reader

TEXTS = ["a good film", "bad plot", "the film was good"]


@pytest.mark.parametrize("name", TASKS)
def test_what_is_no_number_crashes_neither_evaluation_nor_prediction(name, tiny_tokenizer):
    kind = make_task(name, {"new_tokens": 2} if name == "causal-lm" else None)
    outputs = usual_outputs(kind, Key(0))
    models = {"causal-lm": lambda: base("llama"), "question-answering": lambda: reader("bert")}
    model = models.get(name, lambda: make("bert", len(outputs)))()
    words = tokenizer() if name == "causal-lm" else tiny_tokenizer
    task = ModelTask(model, kind, labels=outputs, tokenizer=words)
    params = {name: torch.full_like(weight, math.nan) for name, weight in task.init().items()}
    data = task.encode(kind.probe(TEXTS, 2, Key(1).generator("labels")))
    metrics = task.evaluate(params, EvaluationBatches(data=data, batch_size=2))
    assert math.isnan(metrics.loss)
    json.dumps({**metrics.values(), **kind.document(metrics, outputs)})
    with torch.no_grad():
        rows = kind.answer(task.calling(params), data.batch(range(len(data))), data)
    columns = kind.columns(rows, data, outputs, every=True)
    assert len(to_csv(columns).splitlines()) == 1 + len(next(iter(columns.values())))
