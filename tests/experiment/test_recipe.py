"""One recipe behind one name: what is not said is the recipe that works, and a later layer wins over an earlier one."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from spry.core.errors import ConfigError
from spry.experiment import recipe
from spry.experiment.config import Config, load_config, read_config, read_record
from spry.experiment.recipe import BASES, PRESETS
from spry.federated.methods import METHODS


@pytest.fixture
def toml(tmp_path):
    def write(text: str, name: str = "mine.toml") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_a_file_that_says_nothing_is_the_quickstart(toml):
    assert load_config(toml("")) == load_config("quickstart")
    assert read_config(toml("")) == read_config("quickstart")


def test_a_file_that_names_its_data_gets_the_recipe_that_learns(toml):
    """It was rank 1 by random directions: 22.5 % instead of 87.4 %."""
    mine = load_config(toml('[data]\nname = "news.csv"\ntext = ["body"]\n'))
    theirs = load_config("quickstart", ["data.name=news.csv", "data.text=body"])
    assert mine == theirs
    assert (mine.peft.rank, mine.method.name, mine.client.lr, mine.server.lr) == (16, "residual", 0.001, 1.0)


@pytest.mark.parametrize("base", BASES)
def test_a_file_names_its_base(toml, base):
    assert (
        load_config(toml(f'base = "{base}"')) == load_config(base) == load_config(toml(""), [f"base={base}"])
    )
    assert load_config(base).base == base


def test_plain_is_what_every_setting_is_by_itself():
    assert read_config("plain") == Config()


def test_an_unknown_base_is_named(toml):
    with pytest.raises(ConfigError, match="Did you mean 'quickstart'"):
        read_config(toml('base = "quickstrt"'))
    with pytest.raises(ConfigError, match="where a configuration is read"):
        Config().with_settings({"base": "paper"})


LAYERS = [
    ("", [], 0.001),
    ("[client]\nlr = 0.2", [], 0.2),
    ("[client]\nlr = 0.2\n[methods.residual]\nclient.lr = 0.3", [], 0.3),
    ("[client]\nlr = 0.2\n[methods.residual]\nclient.lr = 0.3", ["client.lr=0.4"], 0.4),
    ("[client]\nlr = 0.2", ["client.lr=0.4", "methods.residual.client.lr=0.5"], 0.5),
    ("", ["methods.residual.client.lr=0.5", "client.lr=0.4"], 0.5),
    ("[methods.fedavg]\nclient.lr = 0.3", [], 0.001),
]
"""A file, what the command line says, and the step size that counts: the quickstart has 0.001 in [methods.residual]."""


@pytest.mark.parametrize(("text", "overrides", "lr"), LAYERS)
def test_later_layers_win_for_a_run_and_in_a_comparison(toml, text, overrides, lr):
    path = toml(text)
    assert load_config(path, overrides).client.lr == lr
    assert read_config(path, overrides).for_method("residual", 0).client.lr == lr


def test_what_is_said_for_all_leaves_a_method_its_other_settings(toml):
    spry = read_config(toml("[client]\nlr = 0.2")).for_method("spry", 0)
    assert (spry.client.optimizer, spry.peft.exact, spry.server.lr) == ("adamw", "auto", 1.0)


def test_a_table_of_the_base_can_be_chosen_by_its_name(toml):
    config = load_config(toml('[method]\nname = "head_only_block"'))
    assert (config.method.name, config.peft.exact) == ("head_only", "last_block")
    assert config == load_config("quickstart", ["method.name=head_only_block"])


def test_a_table_of_a_new_name_rests_on_the_recipe_of_its_method(toml):
    own = "[methods.small]\nmethod.name = 'residual'\npeft = { rank = 4, alpha = 4.0 }\n"
    small = read_config(toml(own)).for_method("small", 0)
    assert small == load_config("quickstart", ["peft.rank=4", "peft.alpha=4.0"])
    optimizer = read_config(toml(own + "client = { optimizer = 'sgd', lr = 0.5 }")).for_method("small", 0)
    assert (optimizer.client.optimizer, optimizer.client.lr, optimizer.server.lr) == ("sgd", 0.5, 1.0)
    block = read_config(toml("[methods.head_only_block]\nclient.lr = 0.5")).for_method("head_only_block", 0)
    assert (block.method.name, block.client.lr, block.peft.exact) == ("head_only", 0.5, "last_block")


def test_options_go_to_the_method_that_they_are_said_of(toml):
    assert load_config(toml('[method]\nname = "fedavg"\ncheckpoint = false')).method.model_extra == {
        "checkpoint": False,
        "split": "everything",
    }
    own = '[methods.kept]\nmethod = { name = "fedavg", split = "cyclic" }\n'
    config = read_config(toml('[method]\nsplit = "contiguous"\n' + own))
    assert config.for_method("residual", 0).method.options.split == "contiguous"  # pyright: ignore
    assert config.for_method("kept", 0).method.options.split == "cyclic"  # pyright: ignore
    assert load_config(
        toml('[method]\nsplit = "contiguous"'), ["method.name=fedavg"]
    ).method.options.split == (  # pyright: ignore
        "everything"
    )


def test_the_description_of_the_examples_data_is_not_that_of_others():
    assert load_config("quickstart").data.test_examples == 1000
    other = load_config("quickstart", ["data.name=reviews.csv"])
    assert other.data.test_examples is None
    assert (
        load_config("quickstart", ["data.name=reviews.csv", "data.test_examples=5"]).data.test_examples == 5
    )


def test_a_step_size_is_of_its_optimizer():
    config = load_config("quickstart", ["server.optimizer=adam"])
    assert (config.server.optimizer, config.server.lr) == ("adam", None)  # building it asks for the step size
    same, said = (["server.optimizer=sgd"], 1.0), (["server.optimizer=adam", "server.lr=0.1"], 0.1)
    for settings, lr in (same, said):
        assert load_config("quickstart", settings).server.lr == lr
    own = load_config("quickstart", ["methods.residual.client.optimizer=sgd"])
    assert (own.client.optimizer, own.client.lr, own.server.lr) == ("sgd", None, 1.0)


@pytest.mark.parametrize("base", PRESETS)
@pytest.mark.parametrize("name", METHODS)
def test_a_run_is_recorded_whole(toml, monkeypatch, base, name):
    """Whatever the base says by then, and though TOML has no null."""
    ran = load_config(base, [f"method.name={name}", "data.name=mine.csv"])
    path = toml(ran.dump())
    assert tomllib.loads(path.read_text())["base"] == base
    monkeypatch.setattr(recipe, "preset", lambda _: {"client.lr": 0.7, "client.clip": 3.0, "peft.rank": 5})
    assert read_record(path) == ran
    assert load_config(path) == ran


def test_what_is_unset_can_be_said(toml):
    path = toml('[client]\noptimizer = "none"\nlr = "none"\n[methods.fedavg]\nclient.lr = "none"\n')
    config = read_config(path)
    assert (config.for_method("spry", 0).client.optimizer, config.for_method("spry", 0).client.lr) == (
        None,
        None,
    )
    assert config.for_method("fedavg", 0).client.lr is None
    with pytest.raises(ConfigError, match="it must be a whole number"):
        read_config(toml('[client]\nbatch_size = "none"'))


def test_a_record_of_before_has_no_base_and_leaves_out_what_is_unset(tmp_path):
    text = '[client]\noptimizer = "sgd"\n[schedule]\nrounds = 3\n'
    (tmp_path / "config.toml").write_text(text)
    record = read_record(tmp_path / "config.toml")
    assert record == Config().with_settings({"client.optimizer": "sgd", "schedule.rounds": 3})
    (tmp_path / "meta.json").write_text("{}")
    assert read_config(tmp_path / "config.toml") == record  # it lies in a run folder


def test_where_settings_come_from_does_not_make_another_run():
    ran = load_config("quickstart")
    again = ran.model_copy(update={"base": "plain"})
    assert ran != again and ran.is_same_run(again)
    assert "base" not in ran.flat()


def test_a_table_that_is_none_and_one_without_a_line(toml):
    with pytest.raises(ConfigError, match="setting client is 3: it must be a table"):
        read_config(toml("client = 3"))
    with pytest.raises(ConfigError, match="there is no setting 'clients'"):
        read_config(toml("[clients]"))
    assert read_config(toml("[client]")) == read_config("quickstart")


@pytest.mark.parametrize(
    ("name", "says"),
    [("fedavgg", "read by nothing.*Did you mean 'fedavg'"), ("fedavg_split", "no such method any more")],
)
def test_a_table_of_no_method_is_not_passed_over(toml, name, says):
    with pytest.raises(ConfigError, match=rf"\[methods.{name}\].*{says}"):
        read_config(toml(f"[methods.{name}.client]\nlr = 0.1\n"))
    assert read_config(toml(f'[methods.{name}]\nmethod.name = "fedavg"\n')).methods[name]
