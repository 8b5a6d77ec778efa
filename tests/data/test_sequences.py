"""Which tokens are learnt, against transformers' own mask of assistants' tokens; packing against joining by hand."""

import numpy as np
import pytest
from tests.language import TEMPLATE, tokenizer

from spry.core.errors import DataError
from spry.data.chat import Chat, Plain, apart
from spry.data.conversations import Turn, exchange
from spry.data.sequences import conversed, documents, packed

CHATS = [
    exchange("Which topic?", "Sports"),
    (Turn("system", "Be brief."), Turn("user", "Hi"), Turn("assistant", "Hello there"), Turn("user", "And?"),
     Turn("assistant", "Bye – né")),
    (Turn("user", "a"), Turn("user", "b"), Turn("assistant", "c")),
]  # fmt: skip


@pytest.mark.parametrize("turns", CHATS)
def test_answers_are_learnt_as_transformers_marks_them(turns):
    words = tokenizer()
    (found,) = conversed([turns], words, Chat(tokenizer=words))
    expected = words.apply_chat_template(
        [turn._asdict() for turn in turns], return_dict=True, return_assistant_tokens_mask=True
    )
    kept = len(found)  # the end of line after the last answer is nothing that anyone reads
    assert words.decode(expected["input_ids"][kept:]).strip() == ""
    assert found.ids.tolist() == expected["input_ids"][:kept]
    assert found.learnt.tolist() == [bool(flag) for flag in expected["assistant_masks"][:kept]]
    assert found.ids[-1] == words.eos_token_id and found.learnt[-1]


def test_the_prompt_is_what_the_learnt_tokens_follow():
    words = tokenizer()
    writer = Chat(tokenizer=words)
    (found,) = conversed(CHATS[:1], words, writer)
    prompt = words(writer.prompt(CHATS[0][:-1]), add_special_tokens=False)["input_ids"]
    assert found.ids[~found.learnt].tolist() == prompt


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("begin", [False, True])
def test_a_prompt_and_an_answer_without_a_template(begin, fast, monkeypatch):
    words = tokenizer(None, begin)
    if not fast:
        monkeypatch.setattr(type(words), "is_fast", False)
    (found,) = conversed([exchange("Which topic?", "Sports")], words, Plain())
    assert words.decode(found.ids) == f"{'<|begin|>' * begin}Which topic?\nSports<|end|>"
    assert words.decode(found.ids[found.learnt]) == "Sports<|end|>"
    assert found.targets == found.learnt.sum()


def test_words_that_spell_a_mark_end_no_turn():
    words = tokenizer()
    turns = exchange("say <|end|> now", "<|turn|>")
    (found,) = conversed([turns], words, Chat(tokenizer=words))
    assert (found.ids == words.eos_token_id).sum() == 2
    assert apart(turns, ["<|end|>", "<|turn|>"]) == exchange("say < |end|> now", "< |turn|>")
    (plain,) = conversed([turns], tokenizer(None), Plain())
    assert (plain.ids == words.eos_token_id).sum() == 1


def test_a_missing_template_names_the_remedies():
    with pytest.raises(
        DataError, match=r"has no chat template.*prompt and answer columns.*task.chat_template"
    ):
        Chat(tokenizer=tokenizer(None))


def test_a_template_that_refuses_the_turns_is_told_with_the_example():
    refusing = "{% if message['role'] == 'system' %}{{ raise_exception('No system') }}{% endif %}<|turn|>{{"
    strict = TEMPLATE.replace("<|turn|>{{", refusing)
    words = tokenizer(strict)
    writer = Chat(tokenizer=words)
    with pytest.raises(
        DataError, match=r"Example 2: the chat template refuses the turns system, user.*No system"
    ):
        conversed(CHATS, words, writer)


def learnt(template):
    words = tokenizer(template)
    (found,) = conversed(CHATS[1:2], words, Chat(tokenizer=words))
    return words.decode(found.ids[found.learnt])


def test_where_earlier_turns_are_rewritten_the_last_answer_is_learnt():
    assert learnt(TEMPLATE) == "Hello there<|end|>Bye – né<|end|>"
    last = "{{ message['content'] if loop.last else '' }}<|end|>{% endgen"
    assert learnt(TEMPLATE.replace("{{ message['content'] }}<|end|>{% endgen", last)) == "Bye – né<|end|>"
    with pytest.raises(DataError, match="answers cannot be told from prompts"):
        learnt(TEMPLATE.replace("{% for", "{{ messages | length }}{% for"))


@pytest.mark.parametrize("begin", [False, True])
def test_documents_end_in_the_end_token(begin):
    words = tokenizer(None, begin)
    found = documents(["the quick", "fox"], words)
    assert [words.decode(one.ids) for one in found] == [
        f"{'<|begin|>' * begin}{t}<|end|>" for t in ("the quick", "fox")
    ]
    assert [one.learnt[0] for one in found] == [not begin] * 2
    assert all(one.learnt[1:].all() for one in found)


@pytest.mark.parametrize("length", [2, 3, 7, 100])
def test_blocks_joined_are_the_documents_joined(length):
    found = documents(["the quick brown fox", "a", "jumps over"], tokenizer())
    blocks = packed(found, length)
    whole = np.concatenate([one.ids for one in found])
    joined = np.concatenate([block.ids for block in blocks])
    assert all(len(block) == length for block in blocks[:-1]) and 1 < len(blocks[-1]) <= length
    assert np.array_equal(joined, whole[: len(joined)]) and len(whole) - len(joined) <= 1


def test_hostile_packs():
    assert packed([], 8) == []
    with pytest.raises(DataError, match="A block of 1 tokens"):
        packed(documents(["fox"], tokenizer()), 1)
    with pytest.raises(DataError, match="has no end token"):
        words = tokenizer(None, True)
        monkey = words.eos_token
        words.eos_token = None
        try:
            documents(["fox"], words)
        finally:
            words.eos_token = monkey
