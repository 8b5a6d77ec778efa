"""``spry methods`` and ``spry datasets``."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table

from spry.cli import screen
from spry.cli.runs import JsonOption


def methods_command(as_json: JsonOption = False) -> None:
    """List the methods, those of plugins among them."""
    from spry.core.plugins import load_plugins
    from spry.federated.methods import METHODS

    load_plugins()
    rows = [{"name": name, "about": info.summary, "paper": info.paper} for name, info in METHODS.items()]
    _print("methods", rows, as_json=as_json)


def datasets_command(as_json: JsonOption = False) -> None:
    """List the data sets that can be had by name."""
    from spry.data.builtin import BUILTINS
    from spry.data.files import ENDINGS

    rows = [
        {
            "name": name,
            "about": spec.about,
            "package": spec.package,
            "installed": importlib.util.find_spec(spec.package) is not None,
        }
        for name, spec in BUILTINS.items()
    ]
    _print("datasets", rows, as_json=as_json)
    if not as_json:
        screen.say(
            f"Your own: --set data.name=FILE, ending in {', '.join(ENDINGS)}, each also with .gz; "
            "or the name of a data set on the Hugging Face Hub."
        )


def _print(title: str, rows: Sequence[Mapping[str, object]], *, as_json: bool) -> None:
    if as_json:
        screen.document(rows)
        return
    table = Table(title=title, title_style="bold", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in rows[0]:
        table.add_column(heading, no_wrap=heading == "name")
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    screen.out().print(table)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
