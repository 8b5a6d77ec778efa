"""What a run learns from, at a glance: a few short lines, and notes where something looks wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from spry.core.errors import ModelError
from spry.data.client_data import LabelledText
from spry.data.datasets import load_splits
from spry.data.facts import ClientFacts, Facts, TokenFacts
from spry.data.reading import LeftOut, Reading
from spry.tasks.classification import ClassificationTask

READING = Reading(source="reviews.csv", format="CSV", rows=60)
FACTS = Facts(
    readings=(READING,),
    train={"no": 24, "yes": 24},
    test={"no": 6, "yes": 6},
    official=False,
    duplicates=0,
    overlap=0,
    contradictions=0,
)
TOKENS = TokenFacts(median=41, longest=212, max_length=121, given=False, share_cut=0.049, needed=121)
CLIENTS = ClientFacts(
    number=40, dealt="by column 'author'", least=12, median=77, most=190, empty=0, held_out=0.2
)


@pytest.fixture(scope="module")
def task(tiny_model):
    return ClassificationTask(str(tiny_model), labels=2)


def data(texts, **options):
    rows = [{"text": text, "label": number % 2} for number, text in enumerate(texts)]
    return LabelledText(splits=load_splits(rows, test=[{"text": "new", "label": 0}])).partition(**options)


def test_all_of_it_is_six_short_lines():
    reading = replace(
        READING, left_out=(LeftOut(reason="empty text in column 'text'", rows=4, first=(3, 7, 9, 11)),)
    )
    facts = replace(FACTS, readings=(reading,), duplicates=13, tokens=TOKENS, clients=CLIENTS, test_unused=30)
    assert facts.lines() == [
        "data: reviews.csv (CSV, 60 rows): 48 to train on, 12 of 42 held out to test on (data.test_examples)",
        "classes: 2 ('no' 24, 'yes' 24)",
        "tokens: median 41, longest 212; 4.9% of texts are cut, at 121 (their 95th percentile)",
        "clients: 40 (by column 'author'), 12 to 190 examples, median 77; 20% of each kept to evaluate on",
        "left out: 4 rows (empty text in column 'text': row 3, 7, 9, 11), 13 duplicates of held-out texts",
    ]
    assert facts.notes() == []


def test_parts_of_their_own_and_long_paths_and_many_classes_stay_short():
    long = replace(READING, source="/home/somebody/experiments/2026/reviews-of-november.csv")
    many = {f"class {number}": number + 1 for number in range(50)}
    facts = replace(FACTS, readings=(long,), train=many, official=True, validation={"no": 3, "yes": 4})
    assert facts.lines() == [
        "data: reviews-of-november.csv (CSV, 60 rows): 1,275 to train on, 12 to test on, 7 held out to validate on",
        "classes: 50 (from 'class 49' 50 to 'class 0' 1)",
    ]


def test_many_classes_of_one_size_are_told_as_such():
    even = {f"class {number}": 7 for number in range(10, 60)}
    assert replace(FACTS, train=even).lines()[1] == "classes: 50 ('class 10' to 'class 59', 7 each)"


@pytest.mark.parametrize(
    ("changes", "line", "note"),
    [
        ({"share_cut": 0.0}, "; no text is cut", None),
        ({"given": True}, "4.9% of texts are cut, at 121 (model.max_length)", None),
        (
            {"given": True, "max_length": 32, "share_cut": 0.933},
            "93.3% of texts are cut, at 32 (model.max_length)",
            "93.3% of the texts are cut at 32 tokens: unset model.max_length, and it is 121",
        ),
        (
            {"max_length": 512, "share_cut": 0.4, "needed": 512},
            "40.0% of texts are cut, at 512 (the most that the model takes)",
            "40.0% of the texts are cut at 512 tokens: the model takes no more.",
        ),
        ({"marked": 1}, "4.9%", "1 text with a special token of the model"),
    ],
)
def test_much_that_is_cut_is_warned_of(changes, line, note):
    tokens = replace(TOKENS, **changes)
    assert line in str(tokens)
    assert [told.startswith(note) for told in tokens.notes()] == ([] if note is None else [True])


def test_clients_without_examples_and_alike_are_told():
    assert "10 to 10" not in str(replace(CLIENTS, least=10, most=10))
    assert "10 examples each" in str(replace(CLIENTS, least=10, most=10))
    assert "; 3 without any; 20%" in str(replace(CLIENTS, empty=3))
    assert str(replace(CLIENTS, held_out=0.0)).endswith("median 77")


@pytest.mark.parametrize(
    ("train", "test", "note"),
    [
        (
            {"no": 9, "yes": 0},
            {"no": 1, "yes": 0},
            "1 of 2 classes without a training example, such as 'yes'.",
        ),
        (
            {"no": 9, "yes": 1},
            {"no": 1, "yes": 1},
            "1 of 2 classes with a single training example, such as 'yes'.",
        ),
        ({"no": 9, "yes": 2}, {"no": 1, "yes": 0}, "1 of 2 classes without a test example, such as 'yes'."),
    ],
)
def test_odd_classes_are_named(train, test, note):
    assert note in replace(FACTS, train=train, test=test).notes()


def test_encoding_finds_what_settings_left_open(task):
    texts = ["good film"] * 19 + ["good " * 25]
    facts = data(texts, clients=4, alpha=None, held_out=0.25).encode(task).facts
    assert facts.tokens == TokenFacts(
        median=4, longest=27, max_length=8, given=False, share_cut=0.05, needed=8
    )
    assert facts.clients == ClientFacts(
        number=4, dealt="iid", least=5, median=5, most=5, empty=0, held_out=0.25
    )
    summary = {"max_length": 8, "share_cut": 0.05, "tokens": {"median": 4, "longest": 27}, "clients": 4}
    assert facts.summary().items() >= summary.items()
    assert json.loads(json.dumps(facts.as_dict())).items() >= facts.summary().items()


def test_train_and_test_are_cut_alike_and_an_impossible_length_is_refused(task):
    federation = data(["good film " * 4] * 20, clients=2).encode(task)
    assert federation.facts.tokens.max_length == 10
    assert next(iter(federation.test))["input_ids"].shape == (1, 3)
    with pytest.raises(ModelError, match=r"max_length is 33. Allowed: 1 to 32, the most"):
        data(["good"] * 4, clients=2).encode(task, max_length=33)


def test_clients_of_a_skewed_partition_are_counted(task):
    texts = ["good film"] * 40
    facts = data(texts, clients=30, alpha=0.01).encode(task).facts.clients
    assert facts.empty > 0 and facts.least >= 1 and facts.most <= 40
    assert facts.dealt == "Dirichlet 0.01"
