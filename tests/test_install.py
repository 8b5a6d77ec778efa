"""What is installed: extras have a use, and one release of the demo's packages is named everywhere."""

from __future__ import annotations

import ast
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import spry
from spry.data.builtin import BUILTINS
from spry.models.sources import FRIENDLY

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def imported() -> set[str]:
    """The distributions that the package imports, as pip writes them."""
    roots: set[str] = set()
    for file in Path(spry.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                roots |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                roots.add(node.module.partition(".")[0])
    known = packages_distributions()
    return {name.lower().replace("_", "-") for root in roots for name in known.get(root, ())}


def name_of(requirement: str) -> str:
    return requirement.partition("[")[0].split(">")[0].split("=")[0].split("<")[0].strip().lower()


def test_every_dependency_is_imported():
    assert {name_of(requirement) for requirement in PROJECT["dependencies"]} <= imported()


def test_the_demos_packages_are_named_alike_everywhere():
    extras = PROJECT["optional-dependencies"]
    pinned = set((ROOT / "constraints-demo.txt").read_text(encoding="utf-8").split())
    named = {requirement for _, requirement in FRIENDLY.values()}
    named |= {f"{spec.package}=={spec.release}" for spec in BUILTINS.values()}
    assert named == pinned
    assert set(extras["demo"]) < pinned
    assert extras.keys() == {"demo", "gguf", "quantized", "metrics", "privacy", "flower", "dev"}
