"""Recipes are found by name wherever one is, and each says what the paper, or its small sibling, has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from spry.core.errors import ConfigError, DataError
from spry.data.places import locate
from spry.experiment.config import load_config, read_config
from spry.experiment.cookbook import find_recipe, recipes

SMALL = "-offline"
PAPERS = [name for name in recipes() if not name.endswith(SMALL)]


@pytest.mark.parametrize("name", recipes())
def test_each_is_read_by_its_name_and_says_what_it_is(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = read_config(name)
    assert config == read_config(f"{name}.toml") == read_config(Path(name))
    assert load_config(name, ["schedule.rounds=3"]).schedule.rounds == 3
    assert config.model.max_length, "memory is predicted for it"
    assert 20 < len(recipes()[name].about) < 110


@pytest.mark.parametrize("name", recipes())
def test_none_names_a_folder_of_a_machine(name):
    text = recipes()[name].text
    assert not re.search(r"[\"' ](/|~|\w:\\)\w", text)
    for place in (read_config(name).data.name, read_config(name).data.test or ""):
        assert not re.search(r"\.(tsv|jsonl|csv)", place) or place.startswith("$SPRY_DATA/")


@pytest.mark.parametrize("name", PAPERS)
def test_those_of_the_paper_have_its_hyperparameters(name):
    config, paper = read_config(name), read_config("paper")
    assert config.base == "paper" and config.methods == paper.methods
    for key in ("peft", "method", "client", "server", "head", "step_factors"):
        assert getattr(config, key) == getattr(paper, key), key
    assert (config.data.clients, config.schedule.clients_per_round) in {(100, 10), (1000, 100)}
    assert config.schedule.rounds == 1500


def test_each_of_the_papers_has_a_small_sibling_that_says_so():
    small = " ".join(recipe.text for name, recipe in recipes().items() if name.endswith(SMALL))
    assert all(name in small for name in PAPERS)


def test_a_file_of_the_users_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "sst2.toml").write_text("seed = 7\n")
    assert read_config("recipes/sst2.toml").seed == 7
    assert find_recipe("recipes/sst2.toml") is None and find_recipe("sst2") is None


def test_a_misspelt_one_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"Did you mean 'recipes/ag-news'\?.*spry recipes lists"):
        read_config("recipes/agnews")


def test_a_name_may_begin_with_a_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("SPRY_TRY", str(tmp_path))
    assert locate("$SPRY_TRY/a.csv") == locate("${SPRY_TRY}/a.csv") == tmp_path / "a.csv"
    assert locate("a$SPRY_TRY/b.csv") == Path("a$SPRY_TRY/b.csv")
    assert locate("~/a.csv") == Path.home() / "a.csv"
    monkeypatch.delenv("SPRY_TRY")
    with pytest.raises(DataError, match=r"no variable SPRY_TRY\. Set it to the folder"):
        locate("$SPRY_TRY/a.csv")
