"""The public face: what ``import spry`` offers is loaded when asked for, documented, and known to type checkers."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import spry

FACE = [name for name in spry.__all__ if name not in {"__version__", "methods", "optim", "splits", "Params"}]


def test_importing_spry_loads_no_torch_and_takes_a_moment():
    code = (
        "import sys, time; begun = time.process_time(); import spry; took = time.process_time() - begun; "
        "heavy = {'torch', 'transformers', 'peft', 'datasets', 'numpy'} & sys.modules.keys(); "
        "assert not heavy, heavy; assert took < 0.3, took"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", spry.__all__)
def test_every_name_can_be_had(name):
    assert getattr(spry, name) is not None
    assert name in dir(spry)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'spyr'"):
        spry.spyr  # ruff: ignore[useless-expression]


def test_about_thirty_names():
    assert 25 <= len(spry.__all__) <= 36


@pytest.mark.parametrize("name", FACE)
def test_every_name_has_a_docstring_that_names_its_arguments(name):
    found = getattr(spry, name)
    doc = inspect.getdoc(found)
    assert doc and doc.split("\n")[0].endswith(".")
    if inspect.isfunction(found):
        for parameter in inspect.signature(found).parameters:
            assert f"{parameter}:" in doc, f"{name} does not say what {parameter} is"


def test_type_checkers_see_the_same_names():
    """They cannot follow ``__getattr__``: for them every name is imported under TYPE_CHECKING."""
    tree = ast.parse(Path(spry.__file__).read_text(encoding="utf-8"))
    (block,) = [n for n in tree.body if isinstance(n, ast.If)]
    seen = {
        (alias.asname or alias.name): f"{node.module}.{alias.name}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen.keys() >= set(FACE)
    for name in FACE:
        module, _, attribute = seen[name].rpartition(".")
        assert getattr(
            sys.modules[module] if module in sys.modules else __import__(module, fromlist=["x"]), attribute
        ) is getattr(spry, name)
