"""``spry run`` and ``spry resume``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spry.cli import screen
from spry.core.errors import ConfigError, DiskError, SpryError, Terminated, WorkerError

if TYPE_CHECKING:
    from spry.experiment.config import Config

AFTER_CTRL_C, AFTER_SIGTERM = 130, 143
"""Exit statuses: 128 and the signal's number, as shells have it."""

ConfigArgument = Annotated[
    str | None,
    typer.Argument(metavar="CONFIG", help="A TOML file, a preset, or a recipe. Default: quickstart."),
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, such as client.lr=1e-3. Repeatable."),
]
MetricsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=65535,
        metavar="PORT",
        help="Serve metrics for Prometheus at http://127.0.0.1:PORT/metrics while the run goes on.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]


def run_command(
    source: ConfigArgument = None,
    settings: SettingsOption = None,
    out: Annotated[Path | None, typer.Option(help="The run folder. Default: one in runs/.")] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Go on with the run of this folder, with the few settings that may change, such as schedule.rounds.",
        ),
    ] = None,
    metrics: MetricsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fine-tune a model as a configuration says, writing a run folder."""
    from spry.cli.folders import run_folder
    from spry.experiment.config import load_config, read_record
    from spry.experiment.folder import recorded
    from spry.experiment.recipe import DEFAULT_BASE

    if _helped():
        return

    if resume is None:
        wanted = load_config(source or DEFAULT_BASE, settings or ())
        folder = out or run_folder(wanted)
        again = f"spry resume {shlex.quote(str(folder))}"
        _run(wanted, folder, again, resume=out is None, metrics=metrics, as_json=as_json)
    else:
        asked = settings or ()
        wanted = load_config(source, asked) if source else read_record(recorded(resume), asked)
        _run(wanted, _only(resume, out), said(), resume=True, metrics=metrics, as_json=as_json)


def resume_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")],
    rounds: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Rounds in all, more than it had: it goes on, finished or not."
        ),
    ] = None,
    metrics: MetricsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a run that was stopped, from its last checkpoint, or make a finished one longer.

    The weights are those of a run that was never stopped, or that was as long from the start, bit for bit.
    """
    from spry.experiment.config import read_record
    from spry.experiment.folder import recorded

    if _helped():
        return
    more = [] if rounds is None else [f"schedule.rounds={rounds}"]
    wanted = read_record(recorded(folder), more)
    _run(wanted, folder, said(), resume=True, metrics=metrics, as_json=as_json)


def said() -> str:
    """The command that runs now, for a shell."""
    return shlex.join(["spry", *sys.argv[1:]])


@contextmanager
def resumable(command: str, begun: Callable[[], bool] = lambda: True) -> Generator[None]:
    """Say how to go on if the body is stopped, or fails in a way that need not come again.

    A run is deterministic: what training or settings refuse once, they refuse again, so there nothing is said.
    """
    try:
        yield
    except (KeyboardInterrupt, Terminated) as error:
        screen.say(f"Stopped. Go on with: {command}" if begun() else "Stopped before the run began.")
        raise typer.Exit(AFTER_SIGTERM if isinstance(error, Terminated) else AFTER_CTRL_C) from error
    except Exception as error:
        if begun() and (isinstance(error, (DiskError, WorkerError)) or not isinstance(error, SpryError)):
            error.add_note(f"What is done is kept. Go on with: {command}")
        raise


def _helped() -> bool:
    """Help the run of another process, if torchrun has started this one for that: it leads, writes and prints."""
    from spry.runtime.processes.environment import group_rank

    if not group_rank():
        return False
    from spry.experiment.workers import help_leader

    help_leader()
    return True


def _only(resume: Path, out: Path | None) -> Path:
    if out is not None:
        raise ConfigError("--out and --resume exclude each other: a resumed run stays in its folder.")
    return resume


def _run(
    wanted: Config, folder: Path, again: str, *, resume: bool, metrics: int | None, as_json: bool
) -> None:
    from spry.cli.progress import Watch
    from spry.experiment import run as experiment
    from spry.experiment.exporter import exported
    from spry.experiment.folder import CONFIG, how_to_go_on, is_finished
    from spry.room import check_room

    finished = resume and is_finished(wanted, folder)
    if finished:
        screen.say(
            f"{folder} is finished; this is its result. For another run, choose another folder (--out)."
        )
    else:
        if note := check_room(wanted):
            screen.say(note)
        with (
            resumable(again, begun=(folder / CONFIG).is_file),
            exported(metrics) as exporter,
            Watch() as watch,
            closing(experiment.run(wanted, folder, resume=resume)) as running,
        ):
            for event in running:
                watch.show(wanted.method.name, event)
                exporter.take(event)
    _print(folder, as_json=as_json)
    if finished and (command := how_to_go_on(wanted, folder)):
        screen.say(command)


def _print(folder: Path, *, as_json: bool) -> None:
    from spry.report.details import chosen, head_start, local_tuning
    from spry.report.groups import group_runs
    from spry.report.outcome import outcome_table
    from spry.report.read import read_run

    done = read_run(folder)
    if as_json:
        screen.document({"folder": str(folder), **(done.summary or {})})
        return
    (section,), _ = group_runs([done])
    screen.show(outcome_table(section))
    for line in (*head_start(done), *chosen(done), *local_tuning(done)):
        screen.say(line)
    screen.say(f"Run folder: {folder}. Curves and tables: {shlex.join(['spry', 'report', str(folder)])}")
