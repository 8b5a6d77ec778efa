"""Writes what the code knows into the pages: defaults of methods, and all settings.

    python docs/generate.py [--check]

With ``--check`` nothing is written, and pages that are not what would be written are named.
"""

from __future__ import annotations

import re
import sys
from itertools import groupby
from pathlib import Path
from typing import Any

from spry.experiment.mistakes import in_a_file
from spry.experiment.reference import Setting, about, list_settings, options_of
from spry.federated.methods import FAMILIES, METHODS, MethodInfo

DOCS = Path(__file__).parent


def defaults(info: MethodInfo) -> str:
    """The table of a method's page."""
    sides = [
        f"| `{side}.optimizer`, `{side}.lr` | "
        + (f"`{own.name}`, {own.lr:g} |" if own else "takes no step |")
        for side, own in (("client", info.client), ("server", info.server))
    ]
    own = [f"| `{one.key}` | `{one.default}` |" for one in options_of(info)]
    return "\n".join(["| setting | default |", "|---|---|", *sides, *own])


def settings() -> str:
    """The page of all settings; plugins have pages of their own."""
    families = {family.__name__ for family in FAMILIES}
    known = list_settings(info for info in METHODS.values() if info.options.__module__ in families)
    lines = [
        "# Settings",
        "",
        "Written by `docs/generate.py` from the code; `spry settings KEY` says the same of one. A setting is a line of a "
        "TOML file, or `--set TABLE.KEY=VALUE`; [how they combine](howto/settings.md).",
        "",
        "*Default* is what counts where nothing is said: the recipe `quickstart`, for its method `spry`. *Plain* is "
        'what counts under `base = "plain"`. `none` means unset.',
        "",
    ]
    for group, found in groupby(known, key=lambda one: one.group):
        lines += [f"## [{group}]" if group else "## Above all tables", "", about(group), ""]
        methods = (f"| {group}s ", "|---") if group in {"method", "task"} else ("", "")
        lines += [
            f"| key | default | plain | allowed {methods[0]}| meaning |",
            f"|---|---|---|---{methods[1]}|---|",
        ]
        lines += [row(one, named=bool(methods[0])) for one in found]
        lines.append("")
    return "\n".join(lines)


def row(one: Setting, *, named: bool) -> str:
    """A setting's line in its table."""
    cells = [f"`{one.name}`", value(one.default), value(one.plain), one.allowed]
    return f"| {' | '.join([*cells, *([', '.join(one.methods) or 'all'] if named else []), one.meaning])} |"


def value(of: Any) -> str:
    """A value as it is written in a file."""
    return "" if of == {} else f"`{in_a_file(of)}`"


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
