"""Writes a report: one self-contained page, its figures as PNG, its tables as Markdown."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from spry.report import details, style
from spry.report.answers import answers, clients, tuned_clients
from spry.report.bars import draw_costs
from spry.report.curves import draw_curves
from spry.report.groups import Group, Section, group_runs
from spry.report.outcome import MORE, outcome_table, section_title, settings_tables
from spry.report.read import Run, read_runs
from spry.report.tables import ReportTable, markdown
from spry.report.tradeoff import draw_tradeoff
from spry.tasks.score_text import score_name

FIGURES: Mapping[str, tuple[Callable[..., Figure], str]] = {
    "curves": (
        draw_curves,
        "{score} and training loss against rounds, and against what all clients together computed and sent.",
    ),
    "costs": (draw_costs, "Costs of a round."),
    "tradeoff": (
        draw_tradeoff,
        "{score} at the end against peak memory: {better} is better, left is cheaper.",
    ),
}
"""Each figure's drawing and caption."""
COMPARING = frozenset({"costs", "tradeoff"})
"""Figures that one method alone would leave a single bar or dot."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The files of a report, and its tables of outcomes, one a section."""

    page: Path
    markdown: Path
    images: tuple[Path, ...]
    tables: tuple[ReportTable, ...]


def write_report(folders: Sequence[Path], out: Path, views: Sequence[ReportTable] = ()) -> Report:
    """Report on runs: one page with figures and tables, the figures as PNG, the tables as Markdown.

    Args:
        folders: Run folders or comparison folders, also of runs in progress.
        out: The folder to write to; made if it is not there.
        views: Tables of comparisons that stand at the end of the page.

    Returns:
        The files.

    Raises:
        DataError: If a folder holds no run, or a file in it is damaged.
    """
    found, repeated = group_runs(read_runs(folders))
    out.mkdir(parents=True, exist_ok=True)
    images: list[Path] = []
    parts = []
    for number, section in enumerate(found, start=1):
        suffix = f"-{number}" if len(found) > 1 else ""
        for name in _figures(section):
            images.append(out / f"{name}{suffix}.png")
            style.write_png(FIGURES[name][0](section), images[-1])
        parts.append(_part(section))
    tables = tuple(outcome_table(section) for section in found)
    page, text = out / "index.html", out / "tables.md"
    left_out = [run.folder for run in repeated]
    page.write_text(_template().render(parts=parts, views=views, repeated=left_out), encoding="utf-8")
    text.write_text("\n\n".join(map(markdown, tables)) + "\n", encoding="utf-8")
    return Report(page=page, markdown=text, images=tuple(images), tables=tables)


def _figures(section: Section) -> list[str]:
    return [name for name in FIGURES if len(section.groups) > 1 or name not in COMPARING]


def _part(section: Section) -> dict[str, Any]:
    common, differing = settings_tables(section)
    colours = [style.mark(index)["color"] for index in range(len(section.groups))]
    score = section.score
    return {
        "title": section_title(section),
        "setting": details.setting(section),
        "origins": details.origins(section.runs),
        "outcome": outcome_table(section, MORE),
        "colours": colours if score.baseline is None else [style.BASELINE_LINE["color"], *colours],
        "figures": [
            (
                name,
                _caption(name, section),
                *(_drawn(name, section, narrow=narrow) for narrow in (False, True)),
            )
            for name in _figures(section)
        ],
        "answers": answers(section.runs[0]) if len(section.runs) == 1 else [],
        "several": len(section.groups) > 1,
        "best": "highest" if score.higher_is_better else "lowest",
        "spread": any(len(group.runs) > 1 for group in section.groups),
        "common": common,
        "differing": differing,
        "runs": [
            _run(run, group, alone=len(section.runs) == 1) for group in section.groups for run in group.runs
        ],
    }


def _run(run: Run, group: Group, *, alone: bool) -> dict[str, Any]:
    """What is folded away for one run; the answers of one that is alone stand above."""
    return {
        "name": f"{group.label}, seed {run.config['seed']}",
        "folder": run.folder,
        "finished": run.summary is not None,
        "rounds": len(run.rounds),
        "chosen": [
            *details.head_start(run),
            *details.chosen(run),
            *details.privacy(run),
            *details.local_tuning(run),
        ],
        "tables": [
            details.evaluations(run),
            *([] if alone else answers(run)),
            clients(run),
            tuned_clients(run),
            details.failures(run),
            details.units(run),
        ],
        "config": run.text,
    }


def _caption(figure: str, section: Section) -> str:
    score = score_name(section.score.name)
    better = "up" if section.score.higher_is_better else "down"
    return FIGURES[figure][1].format(score=score[:1].upper() + score[1:], better=better)


def _drawn(name: str, section: Section, *, narrow: bool) -> str:
    figure = style.svg(FIGURES[name][0](section, narrow=narrow))
    return "data:image/svg+xml;base64," + base64.b64encode(figure).decode("ascii")


def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("spry.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")
