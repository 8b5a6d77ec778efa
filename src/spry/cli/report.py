"""``spry report``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from spry.cli import screen
from spry.cli.runs import JsonOption


def report_command(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Run folders, or folders that 'spry compare' wrote."),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Where to write. Default: 'report' in DIR, or beside several DIRs.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a page with curves and tables, and the figures as PNG; also of runs in progress."""
    from spry.report.comparison import comparison_tables
    from spry.report.page import write_report

    views = [table for folder in folders for table in comparison_tables(folder)]
    written = write_report(folders, out or _beside(folders) / "report", views)
    if as_json:
        screen.document({
            "page": str(written.page),
            "markdown": str(written.markdown),
            "images": [str(image) for image in written.images],
        })
        return
    screen.show(*written.tables, *views)
    screen.say(f"Report: {written.page}")


def _beside(folders: list[Path]) -> Path:
    if len(folders) == 1:
        return folders[0]
    return Path(os.path.commonpath([folder.resolve() for folder in folders]))
