"""Every task with every kind of adapter: plain peft loads the folder, without Spry, and the model says the same."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.models.adapters import ADAPTERS, Adapter, Vera
from spry.profile.task_check import usual_outputs
from spry.tasks.causal_lm.kind import CausalLM
from spry.tasks.kind import TaskKind
from spry.tasks.kinds import TASKS
from spry.tasks.model_call import floating
from spry.tasks.model_task import ModelTask
from tests.models.conftest import ARCHITECTURES

ASKED = {
    "input_ids": [[2, 5, 6, 9, 3], [2, 7, 3, 0, 0]],
    "attention_mask": [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]],
}
STRANGER = """
import json, os, sys
import peft, torch, transformers
from pathlib import Path
assert "spry" not in sys.modules
asked, found = json.load(sys.stdin), {}
for folder, auto in map(lambda text: text.split(":"), sys.argv[1:]):
    card = (Path(folder) / "README.md").read_text().split("```python\\n")[1].split("```")[0]
    if folder.endswith("-lora"):
        exec(card.replace("path/to/this/folder", folder), {})
    os.chdir(folder)
    model = getattr(peft, auto).from_pretrained(".").eval()
    with torch.no_grad():
        given = model(**{name: torch.tensor(rows) for name, rows in asked.items()})
    scores = [v for v in given.values() if isinstance(v, torch.Tensor) and v.is_floating_point()]
    found[folder] = torch.cat([v.double().flatten() for v in scores]).tolist()
print(json.dumps(found))
"""
"""Runs the lines of each task's card, too, for one kind of adapter."""


def combinations():
    """All that can be: the head alone is for tasks that train a head."""
    for task, adapter in itertools.product(TASKS, ADAPTERS):
        if adapter != "head" or TASKS[task].model_class.trains_head:
            yield task, adapter


def kind_of(task: str) -> TaskKind:
    """A task as it is by default; a tiny model has no room for many new tokens."""
    return CausalLM(new_tokens=4) if task == "causal-lm" else TASKS[task]()


def adapter_of(name: str) -> Adapter:
    return Vera(rank=5) if name == "vera" else ADAPTERS[name]()


@pytest.fixture(scope="module")
def bases(tmp_path_factory, tiny_tokenizer):
    """A folder with a tiny model of each task's class, and its head."""
    folder = tmp_path_factory.mktemp("bases")
    for task in TASKS:
        _model(kind_of(task)).save_pretrained(folder / task)
        tiny_tokenizer.save_pretrained(folder / task)
    return folder


def _model(kind: TaskKind) -> Any:
    """Both architectures have biases, which BitFit needs."""
    from transformers import AutoConfig

    model = "gpt2" if kind.name == "causal-lm" else "bert"
    sizes = ARCHITECTURES[model] | {"vocab_size": 32, "max_position_embeddings": 40, "pad_token_id": 0}
    counted = {"num_labels": len(usual_outputs(kind, Key(0)))} if kind.model_class.counted else {}
    config = AutoConfig.for_model(model, **sizes, **counted, bos_token_id=2, eos_token_id=3)
    config.initializer_range = 0.2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind.model_class.loader.from_config(config)


def _task(bases: Path, task: str, adapter: str) -> ModelTask:
    kind = kind_of(task)
    chosen, labels = adapter_of(adapter), usual_outputs(kind, Key(0))
    return ModelTask(str(bases / task), kind, labels=labels, key=Key(3), adapter=chosen)


def test_the_table_is_whole():
    assert set(ADAPTERS) >= {"lora", "rslora", "dora", "ia3", "bitfit", "vera", "norm", "head"}
    assert len(TASKS) >= 7 and len(list(combinations())) >= 55


def test_plain_peft_reads_every_adapter_of_every_task(bases, tmp_path):
    own, folders = {}, []
    asked = {name: torch.tensor(rows) for name, rows in ASKED.items()}
    for task, adapter in combinations():
        made = _task(bases, task, adapter)
        start = made.init()
        weights = {n: w + 0.3 * Key(5).normal(n, tuple(w.shape)) for n, w in start.items()}
        folder = tmp_path / f"{task}-{adapter}"
        made.save_adapter(weights, folder)
        with torch.no_grad():
            own[str(folder)] = floating(made.calling(weights)(asked))
            assert not own[str(folder)].allclose(floating(made.calling(start)(asked)))  # its weights matter
        folders.append(f"{folder}:AutoPeft{made.kind.model_class.auto.removeprefix('Auto')}")
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    installed = [place for place in sys.path if "site-packages" in place]
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path += {installed!r}\n{STRANGER}", *folders],
        input=json.dumps(ASKED), capture_output=True, text=True, cwd="/", env=clean, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for folder, expected in own.items():
        theirs = torch.tensor(found[folder], dtype=torch.float64)
        torch.testing.assert_close(
            theirs, expected, rtol=1e-4, atol=1e-5, msg=lambda m, f=folder: f"{f}: {m}"
        )


@pytest.mark.parametrize("task", [name for name in TASKS if not TASKS[name].model_class.trains_head])
def test_the_head_alone_is_refused_where_no_head_is_trained(bases, task):
    with pytest.raises(ModelError, match="head"):
        _task(bases, task, "head")
