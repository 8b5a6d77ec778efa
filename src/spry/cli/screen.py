"""Where things are printed: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from spry.report.tables import ReportTable

debug = False
"""Whether errors are shown with their trace; ``spry --debug`` sets it."""


def out() -> Console:
    """A console for results, on standard output; 80 columns where that is no terminal and COLUMNS says nothing."""
    return Console(highlight=False)


def err() -> Console:
    """A console for progress and messages, on standard error."""
    return Console(stderr=True, highlight=False)


def say(message: str) -> None:
    """Print a message on standard error, unfolded so that paths can be copied."""
    err().print(Text(message), soft_wrap=True)


def show(*tables: ReportTable) -> None:
    """Print tables on standard output, none wider than it."""
    from spry.report.terminal import terminal

    console = out()
    for table in tables:
        console.print(terminal(table, console.width))


def complain(message: str, notes: Sequence[str] = ()) -> None:
    """Print an error on standard error, and under it how to go on."""
    err().print(Text.assemble(("Error: ", "bold red"), "\n".join([message, *notes])), soft_wrap=True)


def document(content: Any) -> None:
    """Print one JSON document on standard output; a number that is not finite becomes null."""
    typer.echo(json.dumps(_finite(content), indent=2))


def _finite(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
