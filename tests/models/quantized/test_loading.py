"""Packed bases from the setting to the adapter's folder and back, and what is refused on the way."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.inference.loading import load_predictor
from spry.inference.merge import merge_adapter
from spry.models.load import load_model
from spry.models.quantized import kinds
from spry.models.quantized.layers import has_packed
from spry.models.quantized.rows import packed_of
from spry.tasks.classification import ClassificationTask
from tests.models.quantized.conftest import PACKED


def trained(folder, reviews, kind, out, **settings):
    task = ClassificationTask(
        str(folder), labels=reviews.label_names, key=Key(3), quantization=kind, **settings
    )
    weights = {n: w + 0.3 * Key(5).normal(n, tuple(w.shape)) for n, w in task.init().items()}
    batch = task.encode(reviews, max_length=16).batch(range(5))
    task.save_adapter(weights, out)
    with torch.no_grad():
        return task, task.logits(weights, batch).double().numpy(), batch


@pytest.mark.parametrize(("model", "kind"), PACKED)
def test_an_adapters_folder_gives_the_same_scores_and_merges(folder, kind, reviews, tmp_path):
    from transformers import AutoModelForSequenceClassification

    _, scores, batch = trained(folder, reviews, kind, tmp_path / "adapter")
    predictor = load_predictor(tmp_path / "adapter")
    assert has_packed(predictor.model)
    assert predictor.raw(reviews.texts).reshape(scores.shape) == pytest.approx(scores, rel=1e-4, abs=1e-4)
    assert "quantization_config" not in json.loads(
        (tmp_path / "adapter" / "base" / "config.json").read_text()
    )
    notes = merge_adapter(tmp_path / "adapter", tmp_path / "merged")
    assert any("unpacked" in note for note in notes)
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert not has_packed(merged)
    inputs = {n: value for n, value in batch.items() if n != "labels"}
    with torch.no_grad():
        assert merged(**inputs).logits.double().numpy() == pytest.approx(scores, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("kind", ["nf4", "int4"])
def test_plain_peft_loads_the_adapter_onto_the_packed_base(folder, kind, reviews, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    _, scores, batch = trained(folder, reviews, kind, tmp_path / "adapter")
    skipped = ["score"]
    base = AutoModelForSequenceClassification.from_pretrained(
        folder,
        num_labels=3,
        dtype=torch.float32,
        quantization_config=kinds.PACKINGS[kind].config(torch.float32, skipped),
        device_map={"": "cpu"},
    )
    base.config.pad_token_id = 0
    for module in base.modules():
        module.support_avx512bf16_for_cpu = False  # which rounds to bfloat16
    read = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    inputs = {n: value for n, value in batch.items() if n != "labels"}
    with torch.no_grad():
        found = read(**inputs).logits.double().numpy()
    assert found == pytest.approx(scores, rel=1e-2, abs=1e-2)


def test_a_checkpoint_that_is_packed_already_stays_as_it_is(folder, reviews, tmp_path):
    packed = load_model(str(folder), labels=3, key=Key(0), quantization="nf4")
    packed.model.save_pretrained(tmp_path / "packed")
    packed.tokenizer.save_pretrained(tmp_path / "packed")
    for kind in (None, "nf4"):
        again = load_model(str(tmp_path / "packed"), labels=3, key=Key(0), quantization=kind)
        one, other = (
            [(n, found) for n, m in b.model.named_modules() if (found := packed_of(m))]
            for b in (packed, again)
        )
        assert [n for n, _ in one] == [n for n, _ in other]
        for (_, a), (_, b) in zip(one, other, strict=True):
            assert torch.equal(a.rows(0, a.shape[0], torch.float32), b.rows(0, b.shape[0], torch.float32))
    _, scores, _ = trained(tmp_path / "packed", reviews, None, tmp_path / "adapter")
    found = load_predictor(tmp_path / "adapter").raw(reviews.texts).reshape(scores.shape)
    assert found == pytest.approx(scores, rel=1e-4, abs=1e-4)
    with pytest.raises(ModelError, match=r"quantized already \(nf4\).*cannot become int8.*unset"):
        load_model(str(tmp_path / "packed"), labels=3, key=Key(0), quantization="int8")


def test_a_packed_object_is_brought_along_by_whoever_uses_its_adapter(
    folder, reviews, tiny_tokenizer, tmp_path
):
    loaded = load_model(str(folder), labels=3, key=Key(0), quantization="int4")
    task = ClassificationTask(loaded.model, labels=3, key=Key(0), tokenizer=tiny_tokenizer)
    task.encode(reviews, max_length=16)
    task.save_adapter(task.init(), tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"not in its folder.*--base FOLDER"):
        load_predictor(tmp_path / "adapter")
    assert load_predictor(tmp_path / "adapter", base=folder).notes


@pytest.mark.parametrize(("method", "packages"), [("gptq", ["optimum", "gptqmodel"]), ("awq", ["gptqmodel"])])
def test_checkpoints_of_other_kinds_say_what_is_missing_before_weights_are_asked_for(
    folder, method, packages, monkeypatch
):
    if any(importlib.util.find_spec(package) for package in packages):
        pytest.skip("what reads them is installed here")
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": 4, "group_size": 32}
    (folder / "config.json").write_text(json.dumps(config))

    def read(*given, **options):
        raise AssertionError("the weights were asked for")

    monkeypatch.setattr("transformers.AutoModelForSequenceClassification.from_pretrained", read)
    for file in folder.glob("*.safetensors"):
        file.write_bytes(b"")  # nobody looks into it
    told = rf"quantized by {method}.*Run: pip install {' '.join(packages)};.*model\.quantization = 'nf4'"
    with pytest.raises(ModelError, match=told):
        load_model(str(folder), labels=3, key=Key(0))
    with pytest.raises(ModelError, match=rf"quantized already \({method}\)"):
        load_model(str(folder), labels=3, key=Key(0), quantization="nf4")


@pytest.mark.parametrize("model", ["gpt2"])
def test_a_model_that_int4_cannot_pack_is_refused(folder):
    with pytest.raises(ModelError, match=r"no layers that int4 can pack.*'nf4' or 'int8'"):
        load_model(str(folder), labels=3, key=Key(0), quantization="int4")


def test_unknown_kinds_missing_packages_and_other_devices_are_refused(monkeypatch):
    with pytest.raises(ModelError, match=r"no quantization 'nf3'.*nf4.*gptq"):
        kinds.find_packing("nf3")
    with pytest.raises(ModelError, match=r"'int4' runs on cpu only.*model\.device is cuda.*'nf4'"):
        kinds.find_packing("int4", "cuda:0")
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises(ModelError, match=r"'nf4' needs bitsandbytes.*pip install 'spry-fl\[quantized\]'"):
        kinds.find_packing("nf4")
