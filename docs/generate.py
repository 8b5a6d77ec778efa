"""Writes what the code knows into the pages: defaults of methods, and all settings.

    python docs/generate.py [--check]

With ``--check`` nothing is written, and pages that are not what would be written are named.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic.fields import FieldInfo

from spry.experiment.config import Config
from spry.federated.methods import FAMILIES, METHODS, MethodInfo

DOCS = Path(__file__).parent
BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "at least", "max_length": "at most"}
"""Attributes of constraints, and how they are written."""
KINDS: dict[Any, str] = {
    str: "text", int: "integer", float: "number", bool: "true or false", list[str]: "list of text", str | None: "text",
    int | None: "integer", float | None: "number", tuple[float, ...]: "list of numbers",
}  # fmt: skip


def described(annotation: Any) -> FieldInfo:
    """The description and the bounds that stand in an option's annotation."""
    return next(part for part in get_args(annotation) if isinstance(part, FieldInfo))


def allowed(field: FieldInfo, annotation: Any) -> str:
    """What values a setting takes."""
    words, others = [], []  # the words that a Literal lists, and what a union allows beside them
    for part in get_args(annotation):
        words += [word for word in (part, *get_args(part)) if isinstance(word, str)]
        others += [KINDS[part]] if part in KINDS else []
    if words:
        return " or ".join([*(f"`{word}`" for word in words), *others])
    bounds = [
        f"{sign} {getattr(one, at)}"
        for one in field.metadata
        for at, sign in BOUNDS.items()
        if hasattr(one, at)
    ]
    return ", ".join([KINDS.get(annotation, "table"), *bounds])


def options_of(info: MethodInfo) -> list[tuple[str, Any, str, str]]:
    """A method's options: name, default, what is allowed, description."""
    full, plain = (get_type_hints(info.options, include_extras=extras) for extras in (True, False))
    found = [(one.name, one.default, described(full[one.name])) for one in dataclasses.fields(info.options)]
    return [
        (name, default, allowed(field, plain[name]), field.description or "")
        for name, default, field in found
    ]


def defaults(info: MethodInfo) -> str:
    """The table of a method's page."""
    sides = [
        f"| `{side}.optimizer`, `{side}.lr` | "
        + (f"`{own.name}`, {own.lr:g} |" if own else "takes no step |")
        for side, own in (("client", info.client), ("server", info.server))
    ]
    own = [f"| `method.{name}` | `{value}` |" for name, value, *_ in options_of(info)]
    return "\n".join(["| setting | default |", "|---|---|", *sides, *own])


def settings() -> str:
    """The page of all settings."""
    lines = [
        "# Settings",
        "",
        "Written by `docs/generate.py` from the code. A setting is a line of a TOML file, or `--set TABLE.KEY=VALUE`.",
        "",
    ]
    for name, table in Config.model_fields.items():
        kind: Any = table.annotation
        if name == "method" or not hasattr(kind, "model_fields"):
            continue
        lines += [
            f"## [{name}]",
            "",
            kind.__doc__.split("\n")[0],
            "",
            "| key | default | allowed | meaning |",
            "|---|---|---|---|",
        ]
        for key, field in kind.model_fields.items():
            default = "unset" if field.default is None else f"`{field.default}`"
            lines.append(
                f"| `{key}` | {default} | {allowed(field, field.annotation)} | {field.description or ''} |"
            )
        lines.append("")
    lines += [
        "## [method]",
        "",
        "`name` chooses the method (`spry methods` lists them); the other keys are that method's own.",
        "",
    ]
    lines += ["| key | default | allowed | methods | meaning |", "|---|---|---|---|---|"]
    for (key, default, may_be, meaning), names in _options_by_meaning().items():
        lines.append(f"| `{key}` | `{default}` | {may_be} | {', '.join(names)} | {meaning} |")
    lines += [
        "",
        "`seed` (0) is the root of every random draw. `[methods.NAME]` holds what is one method's own in a comparison.",
        "",
    ]
    return "\n".join(lines)


def _options_by_meaning() -> dict[tuple[str, Any, str, str], list[str]]:
    found: dict[tuple[str, Any, str, str], list[str]] = {}
    modules = {family.__name__ for family in FAMILIES}
    for info in METHODS.values():
        if info.options.__module__ in modules:  # plugins have pages of their own
            for option in options_of(info):
                found.setdefault(option, []).append(info.name)
    return dict(sorted(found.items(), key=lambda item: item[0][0]))


def pages() -> dict[Path, str]:
    """Every generated page as it shall be."""
    made = {DOCS / "settings.md": settings()}
    for name, info in METHODS.items():
        path = DOCS / "methods" / f"{name}.md"
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            made[path] = re.sub(
                r"(## Defaults\n\n)(\|.*?\n)(?=\n)",
                lambda m, i=info: f"{m[1]}{defaults(i)}\n",
                text,
                flags=re.DOTALL,
            )
    return made


def main() -> None:
    stale = [
        path
        for path, text in pages().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    if "--check" in sys.argv:
        sys.exit(
            f"run python docs/generate.py: {', '.join(map(str, stale))} are not up to date" if stale else 0
        )
    for path in stale:
        path.write_text(pages()[path], encoding="utf-8")


if __name__ == "__main__":
    main()
