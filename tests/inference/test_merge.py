"""A merged adapter is a plain model: transformers' pipeline, in a process without Spry, gives the same scores."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch

from spry.core.errors import ModelError
from spry.inference.merge import copy_adapter, merge_adapter
from spry.models.adapters import BareHead, BitFit, Dora, Ia3, Lora, Norm, RsLora, Vera
from tests.tasks.test_adapter_folder import PAIRS, TEXTS, ours, save_model, shares, trained

PLAIN = """
import json, sys
sys.modules["peft"] = None  # a plain model does without
from transformers import pipeline
texts = json.load(sys.stdin)
found = {}
for folder in sys.argv[1:]:
    given = [{"text": t[0], "text_pair": t[1]} if isinstance(t, list) else t for t in texts[folder.rpartition("/")[2]]]
    found[folder.rpartition("/")[2]] = pipeline("text-classification", folder)(given, top_k=None)
print(json.dumps(found))
"""


def plain(folders, texts):
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, *map(str, folders)],
        input=json.dumps(texts), capture_output=True, text=True, cwd="/", env=clean, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "MISSING" not in done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_kind_is_merged_to_the_same_scores(tmp_path, tiny_model, tiny_tokenizer):
    bert, labels = str(tiny_model), ["d", "c", "b", "a"]
    llama = save_model("llama", tmp_path / "llama-model", tiny_tokenizer)
    gpt = save_model("gpt2", tmp_path / "gpt-model", tiny_tokenizer)
    kinds = {
        "lora": Lora(rank=2, alpha=4.0),
        "rslora": RsLora(rank=4, rank_pattern={".*": 2}),
        "dora": Dora(rank=2),
        "vera": Vera(rank=5),
        "ia3": Ia3(),
        "norm": Norm(),
        "head": BareHead(),
    }
    cases = {f"bert-{name}": (*trained(bert, labels, kind), TEXTS) for name, kind in kinds.items()}
    cases |= {f"gpt2-{name}": (*trained(gpt, labels, kind), TEXTS) for name, kind in kinds.items()}
    cases |= {
        "bert-bitfit": (*trained(bert, labels, BitFit()), TEXTS),
        "llama": (*trained(llama, labels), TEXTS),
        "pairs": (*trained(bert, 3), PAIRS),
        "half": (*trained(bert, labels, dtype=torch.bfloat16), TEXTS),
    }
    for name, (task, weights, _) in cases.items():
        task.save_adapter(weights, tmp_path / f"{name}-adapter")
        merge_adapter(tmp_path / f"{name}-adapter", tmp_path / "merged" / name)
        for file in (tmp_path / "merged" / name).iterdir():
            assert os.fsencode(tmp_path.parent) not in file.read_bytes(), file
    found = plain(
        [tmp_path / "merged" / name for name in cases], {n: texts for n, (*_, texts) in cases.items()}
    )
    for name, (task, weights, texts) in cases.items():
        close = {"rel": 0.05, "abs": 1e-3} if name == "half" else {"rel": 1e-5, "abs": 1e-6}
        for row, wanted in zip(shares(found[name]), ours(task, weights, texts), strict=True):
            assert row == pytest.approx(wanted, **close), name


def test_a_kind_that_peft_cannot_merge_is_refused_with_the_other_way(tmp_path, tiny_model, monkeypatch):
    task, weights = trained(str(tiny_model), 3)
    task.save_adapter(weights, tmp_path / "adapter")

    def refuse(*_, **__):
        raise NotImplementedError("cannot be merged")

    monkeypatch.setattr("peft.tuners.lora.LoraModel.merge_and_unload", refuse)
    with pytest.raises(ModelError, match=r"cannot merge the adapter \(LoraConfig\).*spry export DIR OUT"):
        merge_adapter(tmp_path / "adapter", tmp_path / "out")
    monkeypatch.setattr("peft.tuners.lora.LoraModel.merge_and_unload", lambda self: self.unload())
    with pytest.raises(ModelError, match="gives other scores than beside it"):
        merge_adapter(tmp_path / "adapter", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    for write in (copy_adapter, merge_adapter):
        for out in (tmp_path / "out", tmp_path / "out" / "mine.txt"):
            with pytest.raises(ModelError, match="exists and is not empty"):
                write(tmp_path, out)
