"""The ``spry`` command: its subcommands, and how it ends."""

from __future__ import annotations

import io
import logging
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Callable
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
    flower,
    memory,
    plan,
    predict,
    report,
    runs,
    screen,
    settings,
    signals,
    status,
)
from spry.core.errors import ConfigError, DataError, ModelError, SpryError, Terminated

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

NOISY = ("bitsandbytes", "torchao", "torch.utils._pytree")
"""Loggers that warn, when peft imports them, of what concerns nobody here."""

app = typer.Typer(
    name="spry",
    help="Fine-tune language models across many clients, at about the memory of inference.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_TRAIN, _USE, _COMPARE, _LOOK = "Train", "Use what was trained", "Compare", "Look before"
_DEPLOY = "Deploy"
COMMANDS: tuple[tuple[str, Callable[..., None], str, str], ...] = (
    (
        "run",
        runs.run_command,
        _TRAIN,
        "spry run --set data.name=reviews.csv --set data.label=stars",
    ),
    ("resume", runs.resume_command, _TRAIN, "spry resume runs/reviews-residual-s0 --rounds 32"),
    ("status", status.status_command, _TRAIN, "spry status runs/reviews-residual-s0"),
    (
        "predict",
        predict.predict_command,
        _USE,
        "spry predict runs/reviews-residual-s0 --data new.csv --out labelled.csv",
    ),
    (
        "evaluate",
        evaluate.evaluate_command,
        _USE,
        "spry evaluate runs/reviews-residual-s0 --data labelled.csv",
    ),
    ("export", export.export_command, _USE, "spry export runs/reviews-residual-s0 --merge my-classifier"),
    (
        "compare",
        compare.compare_command,
        _COMPARE,
        "spry compare quickstart --methods residual,fedavg --seeds 0,1",
    ),
    (
        "report",
        report.report_command,
        _COMPARE,
        "spry report runs/reviews-residual-s0 runs/reviews-fedavg-s0",
    ),
    (
        "flower",
        flower.flower_command,
        _DEPLOY,
        "spry flower init federation --config config.toml --set runtime.data=nodes",
    ),
    ("client", flower.client_command, _DEPLOY, "spry client --serve /run/spry.sock"),
    ("settings", settings.settings_command, _LOOK, "spry settings client.lr"),
    ("recipes", catalog.recipes_command, _LOOK, "spry run recipes/sst2-offline"),
    ("plan", plan.plan_command, _LOOK, "spry plan recipes/ag-news"),
    ("methods", catalog.methods_command, _LOOK, "spry run --set method.name=fedavg"),
    ("datasets", catalog.datasets_command, _LOOK, "spry run --set data.name=bbc-news"),
    ("check", check.check_command, _LOOK, "spry check path/to/model"),
    ("memory", memory.memory_command, _LOOK, "spry memory --model path/to/model --budget 2GB"),
)
"""Name, function, panel of the help, and an example, in the order in which users meet them."""
for _name, _command, _panel, _example in COMMANDS:
    app.command(_name, rich_help_panel=_panel, epilog=f"Example: {_example}")(_command)


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
            Spry itself failed, 130 after Ctrl-C, 143 after SIGTERM.
    """
    screen.debug = False
    _quieten()
    try:
        with signals.terminable():
            code = app(prog_name="spry", standalone_mode=False)
    except Terminated:
        code = runs.AFTER_SIGTERM
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
