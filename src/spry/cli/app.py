"""The ``spry`` command: its subcommands, and how it ends."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Annotated

import typer

from spry import __version__
from spry.cli import catalog, check, compare, failures, memory, report, runs, screen
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
app.command("compare")(compare.compare_command)
app.command("report")(report.report_command)
app.command("memory")(memory.memory_command)
app.command("check")(check.check_command)
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


def main() -> None:
    """Run the command line.

    Raises:
        SystemExit: Always, with 0 after success, 2 for input that cannot be used, 1 where training or files
            failed, 130 after Ctrl-C.
        Exception: If something failed that is not known to be about the user's input: a defect of ours.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    # transformers tells of its own coming renames, which users of this command can do nothing about
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        app()
    except Exception as error:
        told = str(error) if isinstance(error, SpryError) else failures.explain(error)
        if told is None or screen.debug:
            raise
        screen.complain(told, getattr(error, "__notes__", ()))
        if not isinstance(error, SpryError):
            screen.say("For the whole trace: spry --debug ...")
        sys.exit(BAD_INPUT if isinstance(error, (ConfigError, DataError, ModelError)) else FAILURE)
