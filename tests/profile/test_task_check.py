"""A task's own loss is what is checked, in the type that the task computes in."""

from __future__ import annotations

import pytest
import torch
from tests.models.conftest import make

from spry.core.keys import Key
from spry.profile.task_check import check_task, usual_outputs
from spry.tasks.kinds import TASKS
from spry.tasks.model_task import ModelTask


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["classification", "regression", "multi-label"])
def test_a_classifier_passes_as_each_task(name, dtype, tiny_tokenizer):
    """Trained weights stay float32 where the model computes in half precision."""
    kind = TASKS[name]()
    outputs = usual_outputs(kind, Key(0))
    task = ModelTask(
        make("bert", len(outputs)), kind, labels=outputs, tokenizer=tiny_tokenizer, dtype=dtype
    )  # fmt: skip
    found = check_task(task, Key(1), length=8, differences=dtype == torch.float32)
    assert found.passed, found
    assert all(weight.dtype == torch.float32 for weight in task.init().values())


def test_a_language_model_passes_whose_texts_are_packed_into_fewer_rows(tiny_tokenizer):
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 32, "n_positions": 40, "pad_token_id": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", **sizes, initializer_range=0.2))
    task = ModelTask(model, TASKS["causal-lm"](), labels=(), tokenizer=tiny_tokenizer)
    assert check_task(task, Key(1), batch=3, length=8).passed
