"""``spry settings``: what is in the code is found on the command line, too."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from spry.core.plugins import load_plugins
from spry.experiment.config import Config, read_config
from spry.experiment.reference import list_settings
from spry.experiment.retired import RETIRED_KEYS
from spry.federated.methods import METHODS

KEYS = [*dict.fromkeys(one.key for one in list_settings())]


def test_every_setting_is_listed_with_its_meaning_in_80_columns(spry, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    result = spry("settings")
    options = {f"method.{name}" for info in METHODS.values() for name in info.option_names}
    free = {"methods", "tune.grid", "tune.methods"}
    assert {"base", *Config().flat(), *free, *options} <= {
        line.split(" ")[0] for line in result.out.splitlines()
    }
    assert max(map(len, result.out.splitlines())) <= 80
    assert "Step size; the method's own if unset." in result.out
    assert "under [methods.fedavg]" in " ".join(result.out.split())  # brackets are no markup


def test_no_setting_is_without_a_meaning():
    assert [one.key for one in list_settings() if not one.meaning.endswith((".", "`."))] == []


@pytest.mark.parametrize("key", KEYS)
def test_the_example_of_every_setting_is_taken(spry, key, tmp_path):
    """As it stands in a file, and as it is typed: both are the same."""
    lines = spry("settings", key).out.splitlines()
    told = dict(re.findall(r"^  (in a file|typed) +(.+?) *$", "\n".join(lines), flags=re.MULTILINE))
    line, _, table = told["in a file"].partition("   under ")
    setting = shlex.split(told["typed"].removeprefix("--set "))
    owners = [one for one in list_settings() if one.key == key][-1].methods[:1]  # the last one told of
    chosen = [f"{key.partition('.')[0]}.name={name}" for name in owners]  # a method's option, or a task's
    name = "".join(f"name = {json.dumps(name)}\n" for name in owners)
    (tmp_path / "c.toml").write_text(f"{table}\n{name}{line}\n")
    assert read_config(tmp_path / "c.toml") == read_config("quickstart", [*chosen, *setting])


def test_one_setting_says_what_it_takes_and_what_recipes_have(spry):
    out = " ".join(spry("settings", "client.lr").out.split())
    assert out.startswith("client.lr: Step size; the method's own if unset. takes number, > 0, or none")
    assert "quickstart 0.001 for residual, head_only, " in out and "0.03 for fedyogi" in out
    assert "paper 0.0001 for spry; 0.001 for fedmezo" in out
    assert "in a file lr = 0.001 under [client] typed --set client.lr=0.001" in out
    assert "1000, for its own data" in spry("settings", "data.test_examples").out


def test_step_sizes_by_group_and_their_decay_are_explained(spry):
    factors = " ".join(spry("settings", "step_factors").out.split())
    assert "Factors on the step size of whoever steps" in factors
    starts = {"head": "auto", "exact": 1, "body": 1}
    assert all(f"step_factors.{group} {start} Of " in factors for group, start in starts.items())
    decay = " ".join(spry("settings", "schedule.decay").out.split())
    assert "falls linearly" in decay and "takes none or linear" in decay


def test_a_table_a_name_and_an_entry_of_one_method_are_found(spry):
    assert [one["key"] for one in spry("settings", "server", "--json").document] == [
        f"server.{name}" for name in type(Config().server).model_fields
    ]
    assert [one["key"] for one in spry("settings", "lr", "--json").document] == ["client.lr", "server.lr"]
    (found,) = spry("settings", "methods.fedavg.client.lr", "--json").document
    assert (found["key"], found["default"], found["plain"]) == ("client.lr", 0.001, None)
    assert found["recipes"]["quickstart"] | {"fedyogi": 0.03} == found["recipes"]["quickstart"]


def test_an_unknown_and_a_retired_key_say_what_to_do(spry):
    result = spry("settings", "clent.lr")
    assert (result.code, result.out) == (2, "")
    assert "Did you mean 'client.lr'?" in result.err
    known = {one.key for one in list_settings()}
    for key in RETIRED_KEYS.keys() - known:  # a plugin may have an option of an old name
        assert RETIRED_KEYS[key] in spry("settings", key).err


def test_an_option_of_a_plugin_is_explained_though_its_name_was_once_another_methods(spry):
    load_plugins()
    assert "method.tied" in [one.key for one in list_settings()]
    assert spry("settings", "method.tied").out.startswith("method.tied:")
