"""The ``spry`` command: its subcommands, and how it ends."""

from __future__ import annotations

import io
import logging
import os
import shlex
import sys
import traceback
import warnings
from typing import Annotated

import typer

from spry import __version__
from spry.cli import (
    catalog,
    check,
    compare,
    evaluate,
    export,
    failures,
    memory,
    predict,
    report,
    runs,
    screen,
    settings,
)
from spry.core.errors import ConfigError, DataError, ModelError, SpryError

BAD_INPUT, FAILURE = 2, 1

QUIET = {
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""Keeps the model libraries from writing between our lines; what the user has set stays."""

NOISY = ("bitsandbytes",)
"""Loggers that warn, when peft imports them, of what concerns nobody here."""

app = typer.Typer(
    name="spry",
    help="Fine-tune language models across many clients, at about the memory of inference.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(runs.run_command)
app.command("resume")(runs.resume_command)
app.command("predict")(predict.predict_command)
app.command("evaluate")(evaluate.evaluate_command)
app.command("export")(export.export_command)
app.command("compare")(compare.compare_command)
app.command("report")(report.report_command)
app.command("memory")(memory.memory_command)
app.command("check")(check.check_command)
app.command("settings")(settings.settings_command)
app.command("methods")(catalog.methods_command)
app.command("datasets")(catalog.datasets_command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"spry {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the whole trace of an error.")] = False,
) -> None:
    screen.debug = debug
    if debug:
        logging.basicConfig()
        logging.getLogger("spry").setLevel(logging.DEBUG)


def main() -> None:
    """Run the command line.

    Raises:
        SystemExit: Always, with 0 after success, 2 for input that cannot be used, 1 where training, files, memory or
            Spry itself failed, 130 after Ctrl-C.
    """
    screen.debug = False
    _quieten()
    try:
        code = app(prog_name="spry", standalone_mode=False)
    except Exception as error:
        code = _fail(error)
    sys.exit(code)


def _quieten() -> None:
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    # transformers tells of its own coming renames, which users of this command can do nothing about
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows few characters is no reason to fail
            stream.reconfigure(errors="replace")


def _fail(error: Exception) -> int:
    """Say what went wrong, in a line, and return the exit status."""
    if screen.debug:
        traceback.print_exception(error)
    usage = failures.misused(error)
    if usage is not None:
        if usage:
            screen.complain(usage)
        return BAD_INPUT
    told = str(error) if isinstance(error, SpryError) else failures.explain(error)
    notes = getattr(error, "__notes__", ())
    if told is None:
        screen.complain(failures.report(error), notes)
        return FAILURE
    screen.complain(told, notes)
    if not isinstance(error, (SpryError, OSError)) and not screen.debug:
        screen.say(f"For the whole trace: {shlex.join(['spry', '--debug', *sys.argv[1:]])}")
    return BAD_INPUT if isinstance(error, (ConfigError, DataError, ModelError)) else FAILURE
