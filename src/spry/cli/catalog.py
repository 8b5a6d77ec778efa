"""``spry recipes``, ``spry methods`` and ``spry datasets``."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence

from spry.cli import screen
from spry.cli.runs import JsonOption


def recipes_command(as_json: JsonOption = False) -> None:
    """List the recipes: experiments of the paper, and small siblings that run offline."""
    from spry.experiment.cookbook import recipes

    rows = [{"name": recipe.name, "about": recipe.about} for recipe in recipes().values()]
    _print("recipes", rows, rows, as_json=as_json)
    if not as_json:
        screen.say("To run one: spry run NAME. What it would take: spry plan NAME")


def methods_command(as_json: JsonOption = False) -> None:
    """List the methods, those of plugins among them."""
    from spry.core.plugins import load_plugins
    from spry.federated.methods import METHODS

    load_plugins()
    rows = [{"name": name, "about": info.summary, "paper": info.paper} for name, info in METHODS.items()]
    told = [{"name": row["name"], "about": f"{row['about']} {row['paper']}"} for row in rows]
    _print("methods", rows, told, as_json=as_json)
    if not as_json:
        screen.say("To take one: --set method.name=NAME. What it can be told: spry settings method")


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
    _print("datasets", rows, rows, as_json=as_json)
    if not as_json:
        screen.say(
            f"Your own: --set data.name=FILE, ending in {', '.join(ENDINGS)}, each also with .gz; "
            "or the name of a data set on the Hugging Face Hub."
        )


def _print(
    title: str,
    rows: Sequence[Mapping[str, object]],
    told: Sequence[Mapping[str, object]],
    *,
    as_json: bool,
) -> None:
    from spry.report.tables import text_table

    if as_json:
        screen.document(rows)
        return
    texts = [[_text(value) for value in row.values()] for row in told]
    screen.show(text_table(title, list(told[0]), texts))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
