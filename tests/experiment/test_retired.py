"""Settings of earlier versions are told what became of them, in files, on the command line and in methods' tables."""

from __future__ import annotations

import pytest

from spry.core.errors import ConfigError
from spry.experiment.config import Config, load_config, read_config
from spry.experiment.retired import RETIRED_KEYS, RETIRED_METHODS


@pytest.mark.parametrize("key", RETIRED_KEYS)
def test_an_old_key_says_what_became_of_it(key, tmp_path):
    path = tmp_path / "old.toml"
    table, name = key.split(".")
    path.write_text(f"[{table}]\n{name} = 1\n")
    for read in (lambda: read_config(path), lambda: load_config("quickstart", [f"{key}=1"])):
        with pytest.raises(ConfigError) as told:
            read()
        assert RETIRED_KEYS[key] in str(told.value)
    path.write_text(f"[methods.mine.{table}]\n{name} = 1\n")
    with pytest.raises(ConfigError) as told:
        read_config(path).for_method("mine", 0)
    assert key in str(told.value)


@pytest.mark.parametrize("name", RETIRED_METHODS)
def test_an_old_method_says_what_became_of_it(name):
    with pytest.raises(ConfigError, match=name) as told:
        load_config("quickstart", [f"method.name={name}"])
    assert RETIRED_METHODS[name] in str(told.value)


def test_no_setting_of_today_is_called_retired():
    assert not RETIRED_KEYS.keys() & Config().flat().keys()
