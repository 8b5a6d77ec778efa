"""Settings and fixtures for every test: no network, one thread, a tiny random BERT with its tokenizer."""

from __future__ import annotations

import os

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}

from pathlib import Path

import pytest
import torch

WORDS = ["a", "good", "bad", "fine", "film", "plot", "actor", "was", "is", "not", "very", "the", "and"]
WORDS += ["dull", "great"]


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """A tokenizer that knows the words of ``WORDS`` and marks pairs as BERT does."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokens = {token: place for place, token in enumerate(special + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(tokens, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=32,
    )


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, tiny_tokenizer) -> Path:
    """A folder with a random BERT (2 layers, hidden 16, without a head) and its tokenizer."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=32,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.2,
    )
    folder = tmp_path_factory.mktemp("tiny-bert")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def reviews():
    from spry.data.dataset import Dataset

    texts = ["a very good film", "bad plot", "the actor was fine and the plot was good", "dull", "great film"]
    return Dataset(name="reviews", texts=texts, labels=[1, 0, 2, 0, 1], label_names=("bad", "good", "mixed"))


@pytest.fixture(scope="session")
def tiny_csv(tmp_path_factory) -> Path:
    """A csv file of 60 short reviews, 30 of each class, with the columns text, label and author."""
    rows = ["text,label,author"]
    for number in range(60):
        mood, label = (("good", "great"), "positive") if number % 2 else (("bad", "dull"), "negative")
        words = f"the {WORDS[4 + number % 3]} was very {mood[number % 4 // 2]} and {mood[0]}"
        rows.append(f"{words},{label},author-{number % 7}")
    path = tmp_path_factory.mktemp("tiny-data") / "reviews.csv"
    path.write_text("\n".join(rows) + "\n")
    return path
