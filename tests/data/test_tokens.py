from __future__ import annotations

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from spry.core.errors import DataError
from spry.data.dataset import Dataset
from spry.data.encoded import encode
from spry.data.tokens import tokenise

MARKED = ["a [SEP] film", "the [CLS] good [PAD] plot", "[SEP]", "was [UNK] bad", "[SEP] [SEP] a", "dull"]


def unigram() -> PreTrainedTokenizerFast:
    """Like T5's: its marks are pieces of the vocabulary."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((piece, -3.0) for piece in "▁abcdefgs</>")]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def words() -> PreTrainedTokenizerFast:
    """Knows whole words only, a single letter as its end mark among them."""
    vocabulary = {"<pad>": 0, "$": 1, "<unk>": 2, "a": 3}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A $", special_tokens=[("$", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="$", unk_token="<unk>"
    )


def own(tokenizer, ids) -> list[str]:
    """The marks in a row, other than for unknown words."""
    marks = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    return tokenizer.convert_ids_to_tokens([token for token in ids if token in marks])


def test_marks_that_are_written_in_texts_are_words(tiny_tokenizer):
    tokens = tokenise(MARKED, tiny_tokenizer, max_length=32)
    assert all(own(tiny_tokenizer, ids) == ["[CLS]", "[SEP]"] for ids in tokens.fields["input_ids"])
    assert tokens.marked == [True] * 5 + [False]
    assert len(tokens.fields["input_ids"][0]) == 2 + len(["a", "[", "SEP", "]", "film"])
    pairs = tokenise([("a [SEP] b", "plot"), ("plot", "[CLS]")], tiny_tokenizer, max_length=32)
    assert all(own(tiny_tokenizer, ids) == ["[CLS]", "[SEP]", "[SEP]"] for ids in pairs.fields["input_ids"])
    assert pairs.marked == [True, True]


def test_marks_are_words_to_a_tokenizer_that_has_them_in_its_vocabulary():
    tokenizer = unigram()
    assert own(tokenizer, tokenizer("a </s> b", split_special_tokens=True)["input_ids"]) == ["</s>"] * 2
    tokens = tokenise(["a </s> b", "bad", "<pad></s>"], tokenizer, max_length=64)
    assert all(own(tokenizer, ids) == ["</s>"] for ids in tokens.fields["input_ids"])
    plain = tokenizer("bad")["input_ids"]
    assert tokens.fields["input_ids"][1] == plain


def test_a_mark_that_cannot_be_read_as_words_is_named_with_its_example():
    with pytest.raises(DataError, match="Example 1026 writes a special token"):
        encode(
            Dataset(name="t", texts=["a"] * 1025 + ["a $"], labels=[0] * 1026, label_names=("a", "b")),
            words(),
            max_length=8,
            pad=0,
        )


def test_a_text_without_any_token_is_named_with_its_example():
    tokenizer = words()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("~", "")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    assert tokenise(["a", "a ~"], tokenizer, max_length=8).fields["input_ids"] == [[3], [3]]
    with pytest.raises(DataError, match="Example 2 has no token in this model: '~'"):
        tokenise(["a", "~"], tokenizer, max_length=8)


def test_texts_without_marks_get_the_tokens_they_always_had(tiny_tokenizer):
    texts = ["good", "a very good film", "bad plot " * 9, "it is [not] </s> so"]
    tokens = tokenise(texts, tiny_tokenizer, max_length=12)
    expected = tiny_tokenizer(texts, truncation=True, max_length=12)
    assert tokens.fields["input_ids"] == expected["input_ids"]


@pytest.mark.parametrize(("length", "cut"), [(5, [False, True, False]), (6, [False, False, False])])
def test_what_is_cut_and_what_is_marked_is_counted(tiny_tokenizer, length, cut):
    texts = ["good film", "a very good film", "plot"]
    dataset = Dataset(name="t", texts=[*texts, "[SEP]"], labels=[0] * 4, label_names=("a", "b"))
    encoded = encode(dataset, tiny_tokenizer, max_length=length, pad=0)
    assert (encoded.cut, encoded.marked) == (sum(cut), 1)
