"""``spry flower init`` writes an app whose configuration is that of the run."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

pytest.importorskip("flwr", reason="Flower is not installed (the extra flower)")

from spry.experiment.agreed import agreed
from spry.experiment.config import load_config, read_config
from spry.runtime.flower.engine import find_program


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


def test_flower_knows_every_option_of_the_three_commands(spry, tiny_config, tmp_path):
    assert spry("flower", "init", "app", "--config", tiny_config).code == 0
    manual = (tmp_path / "app" / "README.md").read_text(encoding="utf-8")
    blocks = [block.split("\n```")[0] for block in manual.split("```bash\n")[1:]]
    assert len(blocks) == 3
    for block in blocks:
        program, *words = shlex.split(block)
        asked = [program, words[0], "--help"] if program == "flwr" else [program, "--help"]
        told = subprocess.run([find_program(program), *asked[1:]], capture_output=True, text=True, check=True)
        known = set(re.findall(r"--[a-z-]+", re.sub(r"\x1b\[[0-9;]*m", "", told.stdout)))
        assert known.issuperset(word for word in words if word.startswith("--")), program
