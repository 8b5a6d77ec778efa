"""Rows of tokens for language models: what is cut is told, and no block has tokens of two clients."""

import copy

import numpy as np
import pytest
from tests.language import tokenizer

from spry.core.errors import DataError
from spry.core.keys import Key
from spry.data import clients
from spry.data.conversations import Turn, exchange
from spry.data.dataset import Dataset
from spry.data.examples import build_dataset
from spry.data.language_rows import ASKED, encode_language
from spry.data.language_target import LanguageTarget
from spry.data.sequences import documents
from spry.data.table import Columns, Table

TEXTS = [
    "the quick brown fox",
    "a",
    "jumps over the lazy dog",
    "Oil prices rise again",
    "World Business",
    "fox dog",
]


def encoded(texts, max_length=None, words=None, **more):
    dataset = Dataset(name="it", texts=texts, labels=[0] * len(texts), target=LanguageTarget(), more=more)
    return encode_language(dataset, words or tokenizer(), max_length=max_length, most=64, pad=0)


def test_documents_fill_blocks():
    data = encoded(TEXTS, 16)
    assert set(data.lengths[:-1]) == {16} and data.examples is None
    joined = np.concatenate([one.ids for one in documents(TEXTS, tokenizer())])
    assert data.fields["input_ids"].tolist() == joined[: data.starts[-1]].tolist()
    assert encoded(TEXTS).max_length == 64


def test_clients_have_blocks_of_their_own_documents():
    data = encoded(TEXTS, 8)
    dealt = {
        "a": np.array([0, 2, 5], dtype=np.int32),
        "b": np.array([1, 3, 4], dtype=np.int32),
        "c": np.zeros(0, dtype=np.int32),
    }
    made = clients.make(dealt, data, Key(0), held_out=0.34)
    for client, places in zip(made, dealt.values(), strict=True):
        for part in (client.train, client.held_out):
            text = "".join(tokenizer().decode(client.data.batch([row])["input_ids"][0]) for row in part)
            own = {TEXTS[place] for place in places}
            assert all(piece in own for piece in text.split("<|end|>")[:-1])
    assert len(made[0].train) and len(made[0].held_out) and not len(made[2].train)


def test_answers_that_are_cut_are_told():
    turns = [
        exchange("Hi", "there"),
        exchange("Hi", "the quick brown fox jumps over"),
        exchange("x" * 80, "y"),
    ]
    data = encoded(turns, 40)
    assert data.examples.tolist() == [0, 1]
    assert "1 example left out" in data.notes[0] and "model.max_length" in data.notes[0]
    short = encoded(turns[:2], len(data.batch([1])["labels"][0]) - 3)
    assert any("learnt in part" in note for note in short.notes)
    assert data.rows_of(np.array([1, 2], dtype=np.int32)).tolist() == [1]


def test_no_answer_left_names_the_remedy():
    with pytest.raises(DataError, match=r"No answer begins within the first 8 tokens.*model.max_length"):
        encoded([exchange("x" * 80, "y")], 8)


def test_labels_are_the_answers():
    words = tokenizer()
    data = encoded([exchange("Which topic?", "Sports"), exchange("Hi", "a b")])
    batch = data.batch([0, 1])
    for row, answer in enumerate(("Sports<|end|>", "a b<|end|>")):
        labels = batch["labels"][row]
        assert words.decode(labels[labels != -100]) == answer


def test_the_template_says_what_ends_an_answer_be_it_asked_for_or_learnt():
    words = copy.deepcopy(tokenizer())
    words.eos_token = "<|begin|>"
    end = words.convert_tokens_to_ids("<|end|>")
    turns = exchange("Hi", "there")
    assert encoded([turns], words=words).end_of_answer == end != words.eos_token_id
    assert encoded([turns[:1]], words=words, **{ASKED: [0]}).end_of_answer == end
    assert encoded([turns], words=tokenizer(None)).end_of_answer is None


def test_a_prompt_with_its_answer_needs_no_template_but_a_chat_does():
    words = tokenizer(None)
    data = encoded([exchange("Hi", "there")], words=words)
    assert words.decode(data.batch([0])["input_ids"][0]) == "Hi\nthere<|end|>"
    with pytest.raises(DataError, match="has no chat template"):
        encoded([(Turn("system", "Be brief."), *exchange("Hi", "there"))], words=words)


def test_prompts_keep_their_end():
    words = tokenizer()
    asked = encoded([(Turn("user", "x" * 80 + " fox"),)], 16, **{ASKED: [0]})
    text = words.decode(asked.batch([0])["input_ids"][0])
    assert len(asked.batch([0])["input_ids"][0]) == 16 and text.endswith("fox<|end|><|turn|>assistant\n")


TABLE = Table(
    source="f.csv",
    columns={
        "q": ["Hi", "", "And?"],
        "a": ["there", "x", "so"],
        "m": [[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "there"}], None, []],
        "text": ["one", "", "two"],
    },
)


@pytest.mark.parametrize(
    ("target", "texts"),
    [
        (LanguageTarget(prompts="q", answers="a"), [exchange("Hi", "there"), exchange("And?", "so")]),
        (LanguageTarget(messages="m"), [exchange("Hi", "there")]),
        (LanguageTarget(), ["one", "two"]),
        (
            LanguageTarget(prompts="q", answers="a", asking=True),
            [(Turn("user", "Hi"),), (Turn("user", "And?"),)],
        ),
    ],
)
def test_columns_become_inputs(target, texts):
    columns = target.columns(Columns())
    assert not columns.label
    found = build_dataset(TABLE, columns, name="f", blank="skip", target=target)
    assert list(found.texts) == texts and found.label_names == ()
    with pytest.raises(DataError, match="empty text"):
        build_dataset(TABLE, columns, name="f", target=target)


def test_two_columns_of_documents_are_refused():
    with pytest.raises(DataError, match=r"task\.prompts=q task\.answers=a"):
        build_dataset(
            TABLE, LanguageTarget().columns(Columns(text=("q", "a"))), name="f", target=LanguageTarget()
        )
