from __future__ import annotations

import datasets as library
import pytest

from spry.core.errors import DataError
from spry.data import datasets, hub
from spry.data.table import Columns

NAMES = library.ClassLabel(names=["negative", "positive"])
TEXT, NUMBER = library.Value("string"), library.Value("int64")
FEATURES = library.Features({"sentence": TEXT, "label": NAMES, "id": NUMBER})


def part(texts, labels):
    rows = {"sentence": texts, "label": labels, "id": list(range(len(texts)))}
    return library.Dataset.from_dict(rows, features=FEATURES)


TRAIN = part(["good", "bad", "fine"], [1, 0, 1])


@pytest.fixture
def parts(monkeypatch):
    """What the Hub answers, to be filled by a test; the network is the only thing replaced."""
    answer: dict[str, library.Dataset] = {}
    monkeypatch.setattr(library, "load_dataset", lambda name, subset: library.DatasetDict(answer))
    return answer


def test_class_numbers_become_class_names(parts):
    parts |= {"train": TRAIN, "test": part(["dull"], [0])}
    found = datasets.load_splits("owner/reviews", text="sentence", group="id")
    assert found.train.label_names == ("negative", "positive")
    assert found.train.texts == ["good", "bad", "fine"]
    assert found.train.groups == ["0", "1", "2"]
    assert found.official
    assert found.test is not None
    assert found.test.labels == [0]


def test_a_test_part_without_labels_is_passed_over(parts):
    parts |= {"train": TRAIN, "test": part(["x"], [-1]), "validation": part(["y", "z"], [0, 1])}
    found = datasets.load_splits("owner/reviews", text="sentence")
    assert found.test is not None
    assert found.test.texts == ["y", "z"]


def test_a_named_part_is_the_test_part(parts):
    parts |= {"train": TRAIN, "extra": part(["x"], [1]), "test": part(["y"], [0])}
    found = datasets.load_splits("owner/reviews", text="sentence", test="extra")
    assert found.test is not None
    assert found.test.texts == ["x"]
    with pytest.raises(DataError, match=r"no part 'extras'. Did you mean 'extra'"):
        datasets.load_splits("owner/reviews", text="sentence", test="extras")


def test_without_a_test_part_one_can_be_held_out(parts):
    parts |= {"train": part(["a", "b", "c", "d", "e", "f"], [0, 0, 0, 1, 1, 1])}
    assert datasets.load_splits("owner/reviews", text="sentence").test is None
    found = datasets.load_splits("owner/reviews", text="sentence", test_fraction=0.3)
    assert found.test is not None
    assert sorted(found.test.labels) == [0, 1]


def test_a_missing_part_or_column_is_named(parts):
    parts |= {"test": TRAIN}
    with pytest.raises(DataError, match="no part 'train'"):
        datasets.load_splits("owner/reviews", text="sentence")
    parts |= {"train": TRAIN}
    with pytest.raises(DataError, match=r"no column 'sentense'. Did you mean 'sentence'"):
        datasets.load_splits("owner/reviews", text="sentense")


@pytest.mark.parametrize("divided", [True, False])
def test_a_folder_that_save_to_disk_wrote_is_read(tmp_path, divided):
    folder = tmp_path / "saved"
    both = library.DatasetDict({"train": TRAIN.select([2, 1]), "test": part(["dull"], [0])})
    (both if divided else both["train"]).save_to_disk(folder)
    found = datasets.load_splits(str(folder), text="sentence")
    assert found.train.texts == ["fine", "bad"]
    assert found.train.label_names == ("negative", "positive")
    assert (found.test.texts if found.test else None) == (["dull"] if divided else None)
    for file in folder.rglob("*.arrow"):
        file.write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read as a saved data set"):
        datasets.load_splits(str(folder), text="sentence")


def test_a_folder_that_holds_no_data_says_what_it_may_hold(tmp_path, monkeypatch):
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "reviews.csv"
    folder.mkdir()
    with pytest.raises(DataError, match=r"this folder cannot be read.*train.csv and test.csv"):
        datasets.load_splits(str(folder))


def test_training_examples_without_a_label_are_left_out(parts):
    parts |= {"train": part(["a", "b", "c"], [1, -1, 0])}
    found = datasets.load_splits("owner/reviews", text="sentence")
    assert (found.train.texts, found.train.labels) == (["a", "c"], [1, 0])
    assert found.facts.lines()[-1] == "left out: 1 row (label -1, which stands for no label: row 2)"


def test_a_test_part_without_a_label_column_is_passed_over(parts):
    parts |= {"train": TRAIN, "test": TRAIN.remove_columns("label"), "validation": part(["y"], [0])}
    found = datasets.load_splits("owner/reviews", text="sentence")
    assert found.test is not None
    assert found.test.texts == ["y"]


def test_a_folder_laid_out_like_a_hub_data_set_is_read_by_the_library_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "reviews"
    folder.mkdir()
    TRAIN.to_parquet(folder / "train.parquet")
    part(["dull"], [0]).to_parquet(folder / "test.parquet")
    train, test = hub.tables(str(folder), Columns(text=("sentence",)))
    assert train.column("label") == ["positive", "negative", "positive"]
    assert test.column("sentence") == ["dull"]


def test_a_hub_out_of_reach_is_not_asked_again_and_again(monkeypatch, tmp_path):
    import huggingface_hub

    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for offline in (library.config, huggingface_hub.constants):
        monkeypatch.setattr(offline, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(library.config, "HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.utils._http.time, "sleep", lambda _: pytest.fail("it waited"))
    with pytest.raises(DataError, match=r"not in the cache of the Hub; http://127.0.0.1:9 cannot be reached"):
        datasets.load_splits("owner/reviews")
    assert not library.config.HF_HUB_OFFLINE


def test_one_of_several_data_sets_is_chosen_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "glue"
    folder.mkdir()
    listed = "".join(f"- config_name: {name}\n  data_files: {name}.parquet\n" for name in ("mrpc", "sst2"))
    (folder / "README.md").write_text(f"---\nconfigs:\n{listed}---\n", encoding="utf-8")
    for name, rows in (("mrpc", [0, 1]), ("sst2", [2, 1])):
        TRAIN.select(rows).to_parquet(folder / f"{name}.parquet")
    with pytest.raises(
        DataError, match=r"several data sets \(mrpc, sst2\). Choose one: data.subset=mrpc, or"
    ):
        datasets.load_splits(str(folder), text="sentence")
    with pytest.raises(DataError, match=r"no subset 'sst'. Did you mean 'sst2'"):
        datasets.load_splits(str(folder), text="sentence", subset="sst")
    found = datasets.load_splits(str(folder), text="sentence", subset="sst2", encoding="cp1252")
    assert found.train.texts == ["fine", "bad"]
    assert [note.split(" = ")[0] for note in found.without_effect] == ["encoding"]
