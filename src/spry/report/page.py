"""Writes a report: one self-contained page, its figures as PNG, its tables as Markdown."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from spry.report import costs, curves, details, style, tradeoff
from spry.report.groups import Section, sections
from spry.report.load import find
from spry.report.outcome import MAIN, MORE, outcome, settings, title
from spry.report.tables import Table, markdown

FIGURES: Mapping[str, tuple[Callable[[Section], Figure], str]] = {
    "curves": (
        curves.draw,
        "Accuracy and training loss against rounds, compute of all clients together, and bytes they sent.",
    ),
    "costs": (costs.draw, "What a round costs."),
    "tradeoff": (tradeoff.draw, "Accuracy at the end against peak memory: up is better, left is cheaper."),
}
"""Each figure's drawing and caption."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was written.

    Args:
        page: The HTML page.
        markdown: The tables.
        images: The figures.
        tables: One table of outcomes a section.
    """

    page: Path
    markdown: Path
    images: tuple[Path, ...]
    tables: tuple[Table, ...]


def write(folders: Sequence[Path], out: Path, views: Sequence[Table] = ()) -> Report:
    """Report on runs.

    Args:
        folders: Run folders or comparison folders, also of runs in progress.
        out: The folder to write to; made if it is not there.
        views: Tables of comparisons that stand at the end of the page.

    Returns:
        What was written.

    Raises:
        DataError: If a folder holds no run, or a file in it is damaged.
    """
    found, repeated = sections(find(folders))
    out.mkdir(parents=True, exist_ok=True)
    images: list[Path] = []
    parts = []
    for number, section in enumerate(found, start=1):
        drawn = {name: draw(section) for name, (draw, _) in FIGURES.items()}
        suffix = f"-{number}" if len(found) > 1 else ""
        for name, figure in drawn.items():
            images.append(out / f"{name}{suffix}.png")
            style.write(figure, images[-1])
        parts.append(_part(section, drawn))
    tables = tuple(outcome(section) for section in found)
    page, text = out / "index.html", out / "tables.md"
    left_out = [run.folder for run in repeated]
    page.write_text(_template().render(parts=parts, views=views, repeated=left_out), encoding="utf-8")
    text.write_text("\n\n".join(map(markdown, tables)) + "\n", encoding="utf-8")
    return Report(page=page, markdown=text, images=tuple(images), tables=tables)


def _part(section: Section, drawn: Mapping[str, Figure]) -> dict[str, Any]:
    common, differing = settings(section)
    colours = [style.mark(place)["color"] for place in range(len(section.groups))]
    return {
        "title": title(section),
        "setting": details.setting(section),
        "origins": details.origins(section.runs),
        "outcome": outcome(section, (*MAIN, *MORE)),
        "colours": colours if section.majority is None else [style.BASELINE["color"], *colours],
        "figures": [(name, FIGURES[name][1], _embedded(figure)) for name, figure in drawn.items()],
        "spread": any(len(group.runs) > 1 for group in section.groups),
        "common": common,
        "differing": differing,
        "runs": [
            {
                "name": f"{run.method}, seed {run.config['seed']}",
                "folder": run.folder,
                "finished": run.summary is not None,
                "rounds": len(run.rounds),
                "tables": [details.evaluations(run), details.failures(run), details.units(run)],
                "config": run.text,
            }
            for run in section.runs
        ],
    }


def _embedded(figure: Figure) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(style.svg(figure)).decode("ascii")


def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("spry.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")
