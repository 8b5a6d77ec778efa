"""Modules import each other in one direction: no circle, not even one hidden inside a function."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import spry

ROOT = Path(spry.__file__).parent
FILES = {
    ".".join(("spry", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}


def only_for_types(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in {
        getattr(node.test, name, "") for name in ("id", "attr")
    }


def statements(node):
    """All import statements below a node, those in functions too, those for type checkers alone left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif only_for_types(child):
            yield from (found for part in child.orelse for found in statements(ast.Module([part], [])))
        else:
            yield from statements(child)


def imported(source, module, package):
    """The modules among ``FILES`` that a source text imports by name; their parent packages do not count."""
    for node in statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            base = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            home = ".".join([*base, *([node.module] if node.module else [])])
            names = [
                f"{home}.{alias.name}" if f"{home}.{alias.name}" in FILES else home for alias in node.names
            ]
        yield from (name for name in names if name in FILES and name != module)


def graph():
    packages = {
        name: name if path.stem == "__init__" else name.rpartition(".")[0] for name, path in FILES.items()
    }
    return {name: set(imported(path.read_text(), name, packages[name])) for name, path in FILES.items()}


def circles(edges):
    """Groups of more than one module, each of which reaches all others of its group."""
    reach = {module: {module} for module in edges}
    for module, found in reach.items():
        stack = [module]
        while stack:
            new = edges[stack.pop()] - found
            found |= new
            stack.extend(new)
    groups = {frozenset(other for other in reach[module] if module in reach[other]) for module in edges}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def test_no_modules_import_each_other():
    assert len(FILES) > 100
    assert circles(graph()) == []


@pytest.mark.parametrize(
    "source",
    [
        "from spry.forward.dual import Dual",
        "from spry.forward import dual",
        "import spry.forward.dual",
        "from . import dual",
        "from .dual import Dual",
        "def f():\n    from spry.forward import dual",
        "if TYPE_CHECKING:\n    pass\nelse:\n    from spry.forward import dual",
    ],
)
def test_imports_of_every_form_are_seen(source):
    assert set(imported(source, "spry.forward.x", "spry.forward")) == {"spry.forward.dual"}


def test_imports_for_type_checkers_are_left_out():
    source = "import typing\nif typing.TYPE_CHECKING:\n    from spry.forward import dual"
    assert not set(imported(source, "spry.forward.x", "spry.forward"))


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]
