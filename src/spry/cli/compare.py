"""``spry compare``."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from spry.cli import screen
from spry.cli.runs import Json, Settings, Source, resumable
from spry.core.errors import ConfigError, nearest


def compare(
    source: Source,
    methods: Annotated[str, typer.Option(metavar="A,B,C", help="Which methods; see spry methods.")] = (
        "head_only,spry,fedavg"
    ),
    seeds: Annotated[
        str | None, typer.Option(metavar="0,1,2", help="Which seeds. Default: the configuration's own.")
    ] = None,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="The folder of all runs. Default: one in runs/.")] = None,
    as_json: Json = False,
) -> None:
    """Run several methods over several seeds on the same data, and report on them.

    Runs that are finished in the folder are not run again; a run that was stopped goes on.
    """
    from spry.cli import folders
    from spry.cli.progress import Watch
    from spry.experiment import compare as experiment
    from spry.experiment import config

    wanted = config.load(source, settings or ())
    names = _names(methods)
    numbers = [wanted.seed] if seeds is None else _numbers(seeds)
    runs = {f"{name}-s{seed}": wanted.for_method(name, seed) for seed in numbers for name in names}
    folder = out or folders.choose(f"{folders.dataset(wanted)}-compare", runs)
    with resumable(shlex.join(["spry", *sys.argv[1:]])), Watch() as watch:
        for name, seed, event in experiment.compare(wanted, names, numbers, folder):
            place = list(runs).index(f"{name}-s{seed}") + 1
            watch.show(f"{place}/{len(runs)} {name}, seed {seed}", event)
    _print(folder, folder / experiment.FILE, list(runs), as_json=as_json)


def _print(folder: Path, comparison: Path, runs: list[str], *, as_json: bool) -> None:
    from spry.report import page, tables

    report = page.write([folder / run for run in runs], folder / "report")
    if as_json:
        rows = json.loads(comparison.read_text(encoding="utf-8"))["rows"]
        screen.document({"folder": str(folder), "report": str(report.page), "rows": rows})
        return
    for table in report.tables:
        screen.out().print(tables.terminal(table))
    screen.say(f"Report: {report.page}")


def _names(methods: str) -> list[str]:
    from spry.federated.methods import METHODS

    names = [name.strip() for name in methods.split(",") if name.strip()]
    if not names:
        raise ConfigError("--methods names no method. Write them with commas, such as --methods spry,fedavg")
    for name in names:
        if name not in METHODS:
            raise ConfigError(f"no method {name!r}. {nearest(name, METHODS)}")
    return list(dict.fromkeys(names))


def _numbers(seeds: str) -> list[int]:
    try:
        numbers = [int(seed) for seed in seeds.split(",") if seed.strip()]
    except ValueError:
        numbers = []
    if not numbers:
        raise ConfigError(f"--seeds is {seeds!r}. Write whole numbers with commas, such as --seeds 0,1,2")
    return list(dict.fromkeys(numbers))
