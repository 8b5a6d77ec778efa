"""Configurations: what is written is what is read, and every mistake has its own answer."""

from __future__ import annotations

import pytest

from spry.core.errors import ConfigError
from spry.experiment.config import PRESETS, Config, load_config, read_config, read_record


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_load_and_survive_a_round_trip(preset, tmp_path):
    config = read_config(preset)
    (tmp_path / "config.toml").write_text(config.dump())
    assert read_config(tmp_path / "config.toml") == read_record(tmp_path / "config.toml") == config


def test_overrides_are_toml_and_bare_words():
    config = read_config(
        "quickstart", ["client.lr=5e-2", "method.name=fedavg", 'data.text=["a", "b"]', "seed = 7"]
    )
    assert (config.client.lr, config.method.name, config.data.text, config.seed) == (
        0.05,
        "fedavg",
        ["a", "b"],
        7,
    )


def test_per_method_settings_reach_that_method_only(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(
        'base = "plain"\n[methods.spry]\n"server.lr" = 0.5\n[methods.fedavg.client]\nlr = 0.25\noptimizer = "sgd"\n'
    )
    config = read_config(path, ["methods.spry.client.batch_size=3"])
    spry, fedavg = config.for_method("spry", 1), config.for_method("fedavg", 2)
    assert (spry.server.lr, spry.client.lr, spry.client.batch_size, spry.seed) == (0.5, None, 3, 1)
    assert (fedavg.server.lr, fedavg.client.lr, fedavg.client.batch_size) == (None, 0.25, 8)


def test_a_run_takes_its_methods_own_settings_unless_they_are_overridden(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(
        '[client]\nlr = 1.0\n[methods.residual]\nclient.lr = 2.0\npeft.exact = "last_block"\n'
        "[methods.fedavg]\nclient.lr = 3.0\n"
    )
    residual, fedavg, asked = (
        load_config(path, overrides)
        for overrides in ([], ["method.name=fedavg"], ["client.lr=4", "peft.exact=head"])
    )
    assert (residual.client.lr, residual.peft.exact) == (2.0, "last_block")
    assert (fedavg.method.name, fedavg.client.lr, fedavg.peft.exact) == ("fedavg", 3.0, "head")
    assert (asked.client.lr, asked.peft.exact) == (4.0, "head")
    path.write_text(residual.dump())
    assert load_config(path) == residual


def test_the_quickstart_runs_the_recipe():
    recipe = load_config("quickstart")
    assert recipe == read_config("quickstart").for_method("residual", 0)
    assert (recipe.peft.exact, recipe.peft.rank) == ("head", 16)
    assert load_config("quickstart", ["method.name=head_only_block"]).method.name == "head_only"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("clent.lr=1", "'client.lr'"),
        ("client.lrr=1", "'client.lr'"),
        ("rounds=3", "no setting 'rounds'"),
        ("client.lr", "key=value"),
        ("client.lr=-1", "greater than 0"),
        ("data.alpha=0", "greater than 0"),
        ("client.batch_size=0", "at least 1"),
        ("model.dtype=float8", "float32"),
        ("peft.rank=many", "integer"),
        ("method.name=fedavgg", "Did you mean 'fedavg'"),
        ("data.held_out=1.0", "less than 1"),
    ],
)
def test_mistakes_are_answered(override, says):
    with pytest.raises(ConfigError, match=says.replace(".", r"\.")):
        read_config("quickstart", [override])


def test_unknown_key_in_a_file_names_the_nearest(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("[schedule]\nround = 3\n")
    with pytest.raises(ConfigError, match=r"schedule\.rounds"):
        read_config(path)


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(ConfigError, match="quickstart"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "c.toml").write_text("[[[")
    with pytest.raises(ConfigError, match="not TOML"):
        read_config(tmp_path / "c.toml")


def test_every_setting_has_a_place_in_the_flat_list():
    assert {"seed", "client.lr", "schedule.rounds", "data.alpha"} <= set(Config().flat())


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("lr", r"'lr'\. Did you mean 'client\.lr' or 'server\.lr'\? See them all: spry settings$"),
        ("client.lrr", r"'client\.lrr'\. Did you mean 'client\.lr'\? See them all: spry settings$"),
        ("model.rank", r"'model\.rank'\. Did you mean 'peft\.rank'\?"),
        ("zzz", r"'zzz'\. See them all: spry settings$"),
    ],
)
def test_an_unknown_setting_names_what_was_probably_meant(key, told):
    with pytest.raises(ConfigError, match=told):
        Config().with_settings({key: 1})
