"""One name, one meaning: what is public at the top of a module of Spry is defined in no other."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import spry

SOURCE = Path(spry.__file__).parent


def defined(statement: ast.stmt) -> list[str]:
    match statement:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            listed = [name for target in targets for name in getattr(target, "elts", [target])]
            return [name.id for name in listed if isinstance(name, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def test_no_public_name_is_defined_in_two_modules():
    modules: dict[str, set[str]] = defaultdict(set)
    for file in SOURCE.rglob("*.py"):
        place = file.relative_to(SOURCE).as_posix()
        for statement in ast.parse(file.read_text(encoding="utf-8")).body:
            for name in defined(statement):
                modules[name].add(place)
    assert len(modules) > 300
    assert {name: places for name, places in modules.items() if len(places) > 1 and name[0] != "_"} == {}
