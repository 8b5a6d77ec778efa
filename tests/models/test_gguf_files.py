"""A gguf file is loaded whole or refused: one that lacks tensors names one of them."""

from __future__ import annotations

import numpy as np
import pytest

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.models.load import load_model
from spry.tasks.causal_lm.kind import LANGUAGE_MODEL
from tests.language import tokenizer

gguf = pytest.importorskip("gguf")
HIDDEN, INNER, BLOCKS = 16, 24, 2


def shapes(words: int) -> dict[str, tuple[int, ...]]:
    """The tensors of a tiny Llama with one key-value head of two, as llama.cpp calls them."""
    block = {
        "attn_norm": (HIDDEN,), "ffn_norm": (HIDDEN,), "attn_q": (HIDDEN, HIDDEN), "attn_output": (HIDDEN, HIDDEN),
        "attn_k": (HIDDEN // 2, HIDDEN), "attn_v": (HIDDEN // 2, HIDDEN), "ffn_gate": (INNER, HIDDEN),
        "ffn_up": (INNER, HIDDEN), "ffn_down": (HIDDEN, INNER),
    }  # fmt: skip
    named = {f"blk.{b}.{name}.weight": shape for b in range(BLOCKS) for name, shape in block.items()}
    return {"token_embd.weight": (words, HIDDEN), "output_norm.weight": (HIDDEN,), **named}


def write(folder, without=()):
    words = tokenizer()
    tokens = sorted(words.get_vocab(), key=words.get_vocab().get)
    folder.mkdir()
    file = gguf.GGUFWriter(folder / "tiny.gguf", "llama")
    file.add_context_length(64)
    file.add_embedding_length(HIDDEN)
    file.add_block_count(BLOCKS)
    file.add_feed_forward_length(INNER)
    file.add_head_count(2)
    file.add_head_count_kv(1)
    file.add_layer_norm_rms_eps(1e-5)
    file.add_rope_dimension_count(HIDDEN // 2)
    file.add_vocab_size(len(tokens))
    file.add_tokenizer_model("gpt2")
    file.add_token_list(tokens)
    file.add_token_types([3 if token in words.all_special_tokens else 1 for token in tokens])
    file.add_token_merges(["t h"])
    file.add_bos_token_id(words.bos_token_id)
    file.add_eos_token_id(words.eos_token_id)
    draw = Key(0).generator("gguf")
    for name, shape in shapes(len(tokens)).items():
        if name not in without:
            file.add_tensor(name, draw.normal(size=shape).astype(np.float32))
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()
    return str(folder)


def test_a_file_without_some_tensors_is_refused_and_a_whole_one_is_not(tmp_path):
    options = {"labels": (), "key": Key(0), "kind": LANGUAGE_MODEL, "tokenizer": tokenizer()}
    assert load_model(write(tmp_path / "whole"), **options).newly_initialized == ()
    broken = write(tmp_path / "broken", without=["blk.1.ffn_up.weight", "output_norm.weight"])
    told = r"2 pretrained weights are missing.*such as model\.layers\.1\.mlp\.up_proj\.weight.*[Ii]s the file whole"
    with pytest.raises(ModelError, match=told):
        load_model(broken, **options)
