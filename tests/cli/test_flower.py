"""``spry flower init`` writes an app whose configuration is that of the run."""

from __future__ import annotations

import pytest

pytest.importorskip("flwr", reason="Flower is not installed (the extra flower)")

from spry.experiment.agreed import agreed
from spry.experiment.config import load_config, read_config


def own(config):
    """The settings, without those that other methods would have."""
    return {key: value for key, value in config.flat().items() if not key.startswith("methods.")}


def test_an_app_is_written_with_the_runs_settings_and_three_commands(spry, tiny_config, tmp_path):
    ended = spry("flower", "init", "My App", "--config", tiny_config, "--set", "schedule.rounds=7")
    assert ended.code == 0, ended.err
    assert "My App" in ended.out + ended.err
    app = tmp_path / "My App"
    written = {path.name for path in app.iterdir()}
    assert {"pyproject.toml", "config.toml", "connection.toml", "certificates.sh", "README.md"} <= written
    wanted = agreed(load_config(tiny_config, ["schedule.rounds=7"]))
    assert own(read_config(app / "config.toml")) == own(wanted)
    manual = (app / "README.md").read_text(encoding="utf-8")
    for program in ("flower-superlink", "flower-supernode", "flwr run"):
        assert program in manual
    assert 'name = "my-app"' in (app / "pyproject.toml").read_text(encoding="utf-8")


def test_a_folder_that_is_there_is_not_written_into(spry, tiny_config, tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "mine").write_text("", encoding="utf-8")
    ended = spry("flower", "init", "app", "--config", tiny_config)
    assert ended.code != 0 and "app" in ended.err
    assert [path.name for path in (tmp_path / "app").iterdir()] == ["mine"]
