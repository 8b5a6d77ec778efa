"""``spry settings``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from spry.cli import screen
from spry.cli.runs import JsonOption

if TYPE_CHECKING:
    from spry.experiment.recipe import Base
    from spry.experiment.reference import Setting

NARROW, DEFAULTS = 80, 12
"""Columns that the list takes at most, and those of them that defaults take."""
EXAMPLES: Mapping[str, Any] = {"integer": 8, "number": 0.01, "text": "NAME", "list of text": ["NAME"]}
"""What stands in an example where a setting is unset."""
TABLED: Mapping[str, tuple[str, Any]] = {
    "methods": ("methods.fedavg.client.lr", 0.01),
    "tune.grid": ("tune.grid.lr", [0.001, 0.01]),
    "tune.methods": ("tune.methods.fedavg.lr", [0.001, 0.01]),
}
"""A line of each setting that is a table."""


def settings_command(
    key: Annotated[
        str | None,
        typer.Argument(metavar="KEY", help="A setting such as client.lr, or a table such as client."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List all settings, or explain one: what it means, what it takes, what it is where nothing is said."""
    from spry.core.plugins import load_plugins
    from spry.experiment.reference import find_settings, list_settings

    load_plugins()
    found = list_settings() if key is None else find_settings(key)
    if as_json:
        screen.document([_entry(one) for one in found])
    elif key is None or len({one.key for one in found}) > 1:
        _list(found)
        screen.say(
            "Defaults are the recipe quickstart's. Explain one: spry settings KEY. Change one: --set KEY=VALUE."
        )
    else:
        console = screen.out()
        for one in found:
            width = min(NARROW, console.width)
            console.print(Text.assemble((one.key, "bold"), f": {one.meaning}"), width=width)
            console.print(_explained(one), width=width)
            if one is not found[-1]:
                console.print()


def _list(found: Sequence[Setting]) -> None:
    from spry.experiment.reference import about

    longest = max(len(one.key) for one in found)
    for group, settings in groupby(found, key=lambda one: one.group):
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(width=longest, no_wrap=True)
        table.add_column(width=DEFAULTS, overflow="fold")
        table.add_column(overflow="fold")
        for one in settings:
            own = f" ({', '.join(one.methods)})" if one.methods else ""
            table.add_row(one.key, Text(_value(one.default), "cyan"), Text(f"{one.meaning}{own}"))
        console, heading = screen.out(), f"[{group}]  {about(group)}" if group else about(group)
        width = min(NARROW, console.width)
        console.print(Text(heading, "bold"), width=width)
        console.print(table, width=width)
        console.print()


def _explained(one: Setting) -> Table:
    from spry.experiment.mistakes import in_a_file, typed
    from spry.experiment.recipe import PLAIN, PRESETS

    key, value = TABLED.get(one.key, (one.key, _example(one)))
    group, _, name = key.rpartition(".")
    rows = {"takes": one.allowed.replace("`", ""), "methods": ", ".join(one.methods)}
    if one.key not in {"base", *TABLED}:
        rows |= {base: _recipe(one, base) for base in PRESETS}
        rows[PLAIN] = _value(one.plain)
    rows["in a file"] = f"{name} = {in_a_file(value)}" + (f"   under [{group}]" if group else "")
    rows["typed"] = typed(key, value)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=max(map(len, rows)) + 2, no_wrap=True)
    table.add_column(overflow="fold")
    for heading, told in rows.items():
        if told:
            table.add_row(f"  {heading}", Text(told))
    return table


def _recipe(one: Setting, base: Base) -> str:
    """What a recipe has for a setting; which methods have it where they differ."""
    from spry.experiment.recipe import describes_data
    from spry.experiment.reference import recipe_values

    by_value: dict[str, list[str]] = {}
    for method, value in recipe_values(one, base).items():
        by_value.setdefault(_value(value), []).append(method)
    if len(by_value) > 1:
        return "; ".join(f"{value} for {', '.join(methods)}" for value, methods in by_value.items())
    told = next(iter(by_value), "")
    return f"{told}, for its own data" if describes_data(one.key) and told != _value(one.plain) else told


def _example(one: Setting) -> Any:
    if one.default is not None and one.default != []:
        return list(one.default) if isinstance(one.default, tuple) else one.default
    if word := re.match(r"`(\w+)`", one.allowed):
        return word[1]
    return EXAMPLES.get(one.allowed.partition(",")[0], "NAME")


def _value(value: Any) -> str:
    from spry.experiment.departures import shown

    return "" if value == {} else shown(list(value) if isinstance(value, tuple) else value)


def _entry(one: Setting) -> dict[str, Any]:
    from spry.experiment.recipe import PRESETS
    from spry.experiment.reference import recipe_values

    return {
        "key": one.key,
        "meaning": one.meaning,
        "allowed": one.allowed.replace("`", ""),
        "default": one.default,
        "plain": one.plain,
        "recipes": {base: recipe_values(one, base) for base in PRESETS},
        "methods": list(one.methods),
    }
