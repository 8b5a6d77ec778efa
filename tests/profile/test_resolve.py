"""A model's name means what it means to ``spry run``; shapes are asked for, or told of."""

from __future__ import annotations

import shutil

import pytest

from spry.core.errors import ConfigError, ModelError
from spry.models import sources
from spry.profile.architectures import ARCHITECTURES
from spry.profile.resolve import resolve_model


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_shape_is_asked_for(name):
    named = resolve_model(f"shape:{name}")
    assert named.architecture is ARCHITECTURES[name]
    assert named.note == ""


def test_an_existing_folder_is_the_model(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_model("gpt2").architecture is ARCHITECTURES["gpt2"]
    assert "shape:gpt2" in resolve_model("gpt2").note
    shutil.copytree(tiny_model, "gpt2")
    assert resolve_model("gpt2").source == sources.find_source("gpt2")
    assert resolve_model("gpt2").note == ""


def test_a_copy_in_the_cache_of_the_hub_is_the_model(monkeypatch):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda name, file: f"/cache/{name}/{file}")
    assert resolve_model("roberta-base").source == sources.find_source("roberta-base")


def test_a_friendly_name_is_its_package_if_that_is_installed(monkeypatch):
    monkeypatch.setitem(sources.FRIENDLY, "minilm", ("no_such_package", "demo"))
    assert resolve_model("minilm").architecture is ARCHITECTURES["minilm"]
    monkeypatch.setitem(sources.FRIENDLY, "minilm", ("json", "demo"))
    with pytest.raises(ModelError, match="holds no model"):  # json is installed, and has none
        resolve_model("minilm")


@pytest.mark.parametrize("name", ["bert-base-uncased", "gpt2-medium", "opt-350m", "someone/bert-base"])
def test_names_of_the_hub_are_not_taken_for_misspelt_shapes(name):
    assert resolve_model(name).source == sources.Source(path=name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shape:bert-bas", "Did you mean 'bert-base'"),
        ("bert-bas", "Did you mean 'bert-base'"),
        ("minlm", "Did you mean 'minilm'"),
        ("./minilm", "no such folder"),
        ("package:nothing-like-it", "is not installed"),
        ("", "no such folder"),
    ],
)
def test_what_is_nothing_is_refused(name, message):
    with pytest.raises((ConfigError, ModelError), match=message):
        resolve_model(name)
