"""The tutorial runs, checks itself, and stays short."""

from __future__ import annotations

import runpy
from pathlib import Path

TUTORIAL = Path(__file__).parents[2] / "tutorials" / "tiny_dual.py"


def test_it_agrees_with_torch(capsys):
    runpy.run_path(str(TUTORIAL), run_name="__main__")
    assert "as torch has it" in capsys.readouterr().out


def test_it_is_under_a_hundred_lines():
    assert len(TUTORIAL.read_text().splitlines()) < 100
