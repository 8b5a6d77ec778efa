"""Windows over long contexts: every token of a context is read, and targets are where the answers are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spry.core.errors import DataError
from spry.core.keys import Key
from spry.data.dataset import Dataset
from spry.data.encoded import Encoded
from spry.tasks.question_answering.target import QUESTIONS, Span
from spry.tasks.question_answering.windows import encode_windows
from tests.conftest import WORDS


@pytest.fixture(scope="module")
def bytes_tokenizer():
    """A byte-level tokenizer like GPT-2's: no marks, and spaces belong to the words after them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(
        [" ".join(WORDS)] * 3,
        trainers.BpeTrainer(
            vocab_size=300, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
        ),
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="!", eos_token="!")


@pytest.fixture(params=["marks", "bytes"])
def tokenizer(request, tiny_tokenizer, bytes_tokenizer):
    return tiny_tokenizer if request.param == "marks" else bytes_tokenizer


def words(count: int, *at: int | str) -> str:
    return " ".join(WORDS[k] for k in Key(0).fold(*at).generator("words").integers(len(WORDS), size=count))


def asked(count: int = 20, longest: int = 60) -> Dataset:
    """Questions on contexts of 1 to ``longest`` words; two in three have an answer of up to three of them."""
    texts, answers = [], []
    for number in range(count):
        context = words(1 + number * (longest - 1) // max(1, count - 1), number)
        texts.append((words(1 + number % 5, "question", number), f" {context}  "))
        parts = context.split(" ")
        first = (7 * number) % len(parts)
        start = 1 + sum(len(word) + 1 for word in parts[:first])
        text = " ".join(parts[first : first + 1 + number % 3])
        answers.append((Span(text=text, start=start),) if number % 3 else ())
    return Dataset(name="made", texts=texts, labels=answers, target=QUESTIONS)


def of(made: Encoded, *questions: int):
    """A batch of all windows of some questions."""
    return made.batch(made.rows_of(np.asarray(questions, dtype=np.int32)))


@pytest.mark.parametrize(("length", "stride"), [(14, 3), (20, 0), (20, 9), (200, None)])
def test_windows_cover_the_context_and_targets_are_the_answers(tokenizer, length, stride):
    questions = asked()
    made = encode_windows(questions, tokenizer, max_length=length, stride=stride, pad=0)
    assert sorted(set(made.examples)) == list(range(len(questions)))
    for place in range(len(questions)):
        batch = of(made, place)
        context = questions.texts[place][1]
        covered, held = set(), False
        for row, spans in enumerate(torch.stack([batch["begins"], batch["ends"]], 2).tolist()):
            covered |= {at for begin, end in spans for at in range(begin, end)}
            start, end = (int(batch[f"{side}_positions"][row]) for side in ("start", "end"))
            null = int(batch["null"][row])
            answers = questions.labels[place]
            if start == end == null and not (answers and spans[start][1]):
                continue
            held = True
            assert context[spans[start][0] : spans[end][1]].strip() == answers[0].text
        assert covered >= {at for at, letter in enumerate(context) if letter != " "}
        assert batch["input_ids"].shape[1] <= length
        if len(of(made, place)["input_ids"]) == 1:
            assert held == bool(questions.labels[place])


def test_a_window_that_cuts_the_answer_has_the_null_token_as_its_target(tiny_tokenizer):
    context = "a good bad fine film plot actor was is not"
    answer = Span(text="plot actor", start=context.index("plot"))
    questions = Dataset(name="made", texts=[("very", context)], labels=[(answer,)], target=QUESTIONS)
    batch = encode_windows(questions, tiny_tokenizer, max_length=10, stride=0, pad=0).batch([0, 1])
    # six words of the context a window: the first one ends within the answer
    assert batch["ends"].amax(dim=1).tolist() == [context.index(" actor"), len(context)]
    assert (
        batch["start_positions"].tolist()
        == batch["end_positions"].tolist()
        == batch["null"].tolist()
        == [0, 0]
    )


def test_rows_are_what_the_tokenizer_makes_of_the_pair(tiny_tokenizer):
    questions = asked()
    made = encode_windows(questions, tiny_tokenizer, max_length=20, stride=5, pad=tiny_tokenizer.pad_token_id)
    expected = tiny_tokenizer(
        [pair[0] for pair in questions.texts], [pair[1] for pair in questions.texts], truncation="only_second",
        max_length=20, stride=5, return_overflowing_tokens=True, padding=True, return_tensors="pt",
    )  # fmt: skip
    batch = made.batch(range(len(made)))
    for name in expected.keys() - {"overflow_to_sample_mapping"}:
        assert batch[name].equal(expected[name]), name
    assert batch["question"].equal(expected["overflow_to_sample_mapping"])


def test_the_null_token_is_cls_wherever_it_stands(tiny_tokenizer):
    from tokenizers import processors

    saved = tiny_tokenizer.backend_tokenizer.post_processor
    tiny_tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        pair="$A:0 [SEP]:0 $B:1 [CLS]:1", special_tokens=[("[SEP]", 3), ("[CLS]", 2)]
    )
    try:
        batch = encode_windows(asked(4), tiny_tokenizer, max_length=200, pad=0).batch(range(4))
    finally:
        tiny_tokenizer.backend_tokenizer.post_processor = saved
    assert batch["null"].equal(batch["attention_mask"].sum(dim=1) - 1)
    assert batch["start_positions"][0] == batch["null"][0]


def test_a_long_question_is_cut_so_that_windows_move_on(tiny_tokenizer):
    long = Dataset(
        name="made", texts=[(words(500, "long"), words(100, "context"))], labels=[()], target=QUESTIONS
    )
    made = encode_windows(long, tiny_tokenizer, max_length=23, stride=6, pad=0)
    # 20 tokens beside the marks, 7 of the question: a window has 13 of the context, 7 of them new
    assert of(made, 0)["input_ids"].shape == (14, 23)
    assert made.cut == 0


def test_without_a_length_it_is_what_most_questions_need(tiny_tokenizer):
    made = encode_windows(asked(), tiny_tokenizer, most=512, pad=0)
    whole = sorted(len(tiny_tokenizer(*pair)["input_ids"]) for pair in asked().texts)
    assert made.max_length == whole[18]
    assert encode_windows(asked(), tiny_tokenizer, most=30, pad=0).max_length == 30


@pytest.mark.parametrize("stride", [-1, 16, 40])
def test_a_stride_that_leaves_no_room_is_refused(tiny_tokenizer, stride):
    with pytest.raises(DataError, match="Allowed: 0 to 15"):
        encode_windows(asked(2), tiny_tokenizer, max_length=20, stride=stride, pad=0)


def test_a_slow_tokenizer_is_refused():
    with pytest.raises(DataError, match="fast tokenizer"):
        encode_windows(asked(2), object(), max_length=20, pad=0)


def test_written_marks_stay_words(tiny_tokenizer):
    marked = Dataset(
        name="made", texts=[("a [SEP] film", "good [CLS] plot [SEP]")], labels=[()], target=QUESTIONS
    )
    ids = encode_windows(marked, tiny_tokenizer, max_length=40, pad=0).batch([0])["input_ids"]
    assert torch.isin(ids, torch.tensor([2, 3])).sum() == 3
