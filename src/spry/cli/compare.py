"""``spry compare``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spry.cli import screen
from spry.cli.runs import ConfigArgument, JsonOption, SettingsOption, resumable, said
from spry.core.errors import ConfigError, nearest

if TYPE_CHECKING:
    from spry.experiment.config import Config

SEEDS = 3
"""How many seeds are run if the user names none."""


def compare_command(
    source: ConfigArgument = None,
    methods: Annotated[str, typer.Option(metavar="A,B,C", help="Which methods; see spry methods.")] = (
        "head_only,residual,fedavg"
    ),
    seeds: Annotated[
        str | None,
        typer.Option(metavar="0,1,2", help="Which seeds. Default: three, from the configuration's own on."),
    ] = None,
    settings: SettingsOption = None,
    out: Annotated[Path | None, typer.Option(help="The folder of all runs. Default: one in runs/.")] = None,
    budget_mib: Annotated[
        float | None, typer.Option(min=0, help="Memory of a client above the model. Default: any.")
    ] = None,
    budget_operations: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER",
            help="Floating-point operations of all clients, such as 5e12 or 5T. Default: the cheapest rival's.",
        ),
    ] = None,
    budget_bytes: Annotated[
        float | None, typer.Option(min=0, help="Bytes up and down per client. Default: the cheapest rival's.")
    ] = None,
    budget_cpu_seconds: Annotated[
        float | None,
        typer.Option(min=0, help="Processor seconds of all clients. Default: the cheapest rival's."),
    ] = None,
    budget_seconds: Annotated[float | None, typer.Option(hidden=True)] = None,
    target: Annotated[
        float | None,
        typer.Option(
            help="Score to reach, such as an accuracy of 0.8. Default: near the best backpropagated one."
        ),
    ] = None,
    backprop: Annotated[
        bool, typer.Option(help="Add fedavg with checkpointing if no method is backpropagation with it.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Run several methods over several seeds on the same data, and report on them.

    Each method is tuned first if the configuration has a grid in its table "tune". Finished runs in the folder are
    reused; a run that was stopped goes on.
    """
    from spry.cli import folders
    from spry.cli.progress import Watch
    from spry.compare import compare as comparison
    from spry.compare.costs import Budget, parse_operations
    from spry.experiment.config import read_config
    from spry.experiment.departures import comparison_lines
    from spry.experiment.folder import CONFIG
    from spry.experiment.recipe import DEFAULT_BASE
    from spry.room import check_room

    _refuse_wall_time(budget_seconds)
    _refuse_torchrun()
    wanted = read_config(source or DEFAULT_BASE, settings or ())
    names = _names(methods, wanted)
    if backprop:
        wanted, names = _with_baseline(wanted, names)
    numbers = [wanted.seed + k for k in range(SEEDS)] if seeds is None else _numbers(seeds)
    runs = comparison.list_runs(wanted, names, numbers)
    recipe = comparison_lines({name: wanted.for_method(name, 0) for name in names})
    folder = out or folders.choose_folder(f"{folders.short_name(wanted)}-compare", runs)
    budget = Budget(
        peak_bytes_above_model=budget_mib and budget_mib * 2**20,
        operations=None if budget_operations is None else parse_operations(budget_operations),
        bytes_per_client=budget_bytes,
        cpu_seconds=budget_cpu_seconds,
    )
    for name in names:
        if note := check_room(wanted.for_method(name, 0)):
            screen.say(f"{name}: {note}")
    records = [folder / place / CONFIG for place in runs]
    going_on = resumable(said(), begun=lambda: any(path.is_file() for path in records))
    with going_on, Watch(several=True, recipe=recipe) as watch:
        for name, event in comparison.compare_methods(
            wanted, names, numbers, folder, budget=budget, target=target
        ):
            watch.show(name, event)
    _print(folder, [folder / f"{name}-s{seed}" for seed in numbers for name in names], as_json=as_json)


def _refuse_torchrun() -> None:
    from spry.runtime.processes.environment import group_size

    if group_size() > 1:
        raise ConfigError(
            "torchrun deals one run, and a comparison makes many. Call spry compare without it, with --set "
            "runtime.workers=N"
        )


def _refuse_wall_time(seconds: float | None) -> None:
    if seconds is not None:
        raise ConfigError(
            "--budget-seconds limited wall time, which depends on what else the machine does. Limit processor time "
            "with --budget-cpu-seconds, or operations, which are the same everywhere, with --budget-operations."
        )


def _print(folder: Path, runs: list[Path], *, as_json: bool) -> None:
    from spry.report.comparison import COMPARISON_JSON, comparison_tables, write_markdown
    from spry.report.page import write_report

    views = comparison_tables(folder)
    report = write_report(runs, folder / "report", views)
    text = write_markdown(folder, report.tables)
    if as_json:
        found = json.loads((folder / COMPARISON_JSON).read_text(encoding="utf-8"))
        places = {"folder": str(folder), "report": str(report.page), "markdown": str(text)}
        screen.document({**places, **found})
        return
    screen.show(*report.tables, *views)
    screen.say(f"Report: {report.page}")


def _with_baseline(wanted: Config, names: list[str]) -> tuple[Config, list[str]]:
    from spry.compare import compare as comparison

    config, more = comparison.with_baseline(wanted, names)
    for name in more[len(names) :]:
        screen.say(
            f"Backpropagation with checkpointing is added ({name}), which none of {', '.join(names)} is. "
            "To leave it out, write --no-backprop."
        )
    return config, more


def _names(methods: str, wanted: Config) -> list[str]:
    from spry.core.plugins import load_plugins
    from spry.experiment.retired import RETIRED_METHODS
    from spry.federated.methods import METHODS

    load_plugins()
    known = {*METHODS, *wanted.methods}
    names = [name.strip() for name in methods.split(",") if name.strip()]
    if not names:
        raise ConfigError("--methods names no method. Write them with commas, such as --methods spry,fedavg")
    for name in names:
        if name not in known and name not in RETIRED_METHODS:  # of those the configuration says what became
            raise ConfigError(f"no method {name!r}. {nearest(name, known)}")
    return list(dict.fromkeys(names))


def _numbers(seeds: str) -> list[int]:
    try:
        numbers = [int(seed) for seed in seeds.split(",") if seed.strip()]
    except ValueError:
        numbers = []
    if not numbers:
        raise ConfigError(f"--seeds is {seeds!r}. Write whole numbers with commas, such as --seeds 0,1,2")
    return list(dict.fromkeys(numbers))
