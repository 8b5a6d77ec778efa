"""What the pages name is there: settings, files, methods, and commands that the command line takes."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import typer

from spry.cli.app import app
from spry.core.plugins import load_plugins
from spry.experiment.config import Config, load_config
from spry.experiment.retired import RETIRED_KEYS, RETIRED_METHODS
from spry.federated.methods import METHODS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TABLES = "model|peft|data|client|server|schedule|tune|method"
AS_MEASURED = "results"
"""The folder whose tables keep the names under which their rows were measured."""


def page(path):
    return path.read_text(encoding="utf-8")


def settings():
    tables = {
        n: f.annotation for n, f in Config.model_fields.items() if hasattr(f.annotation, "model_fields")
    }
    own = {f"{n}.{key}" for n, kind in tables.items() for key in kind.model_fields}
    return own | {f"method.{option}" for info in METHODS.values() for option in info.option_names}


by_page = pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


@by_page
def test_settings_exist(path):
    named = set(re.findall(rf"`((?:{TABLES})\.[a-z_]+)\b(?!\()", page(path)))
    files = {f"{name}.{end}" for name in TABLES.split("|") for end in ("py", "md", "toml", "json")}
    assert named - files <= settings()


@by_page
def test_files_exist(path):
    for name in re.findall(r"`((?:[\w.]+/)+[\w.]+\.(?:py|toml|md|json))\b", page(path)):
        assert any((base / name).is_file() for base in (ROOT, ROOT / "src" / "spry")), name


@by_page
def test_methods_are_not_retired(path):
    if AS_MEASURED not in path.parts:
        retired = "|".join([*RETIRED_METHODS, *(key.replace(".", r"\.") for key in RETIRED_KEYS)])
        assert not re.findall(rf"`(?:{retired})\b", page(path))


@by_page
def test_commands_are_taken(path):
    if path.stem == "tries":
        pytest.skip("its commands were run, and some are wrong on purpose")
    load_plugins()
    known = typer.main.get_command(app).commands
    text = page(path).replace("\\\n", " ")
    for line in re.findall(r"^spry .+$", text, flags=re.MULTILINE):
        _, name, *words = shlex.split(line, comments=True)
        assert name in known, line
        options = {o for p in known[name].params for o in p.opts}
        assert {w for w in words if w.startswith("--")} <= options, line
        if name == "run" and "--resume" not in words:
            assert load_config("quickstart", [b for a, b in pairwise(words) if a == "--set"])
