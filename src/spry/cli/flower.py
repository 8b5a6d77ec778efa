"""``spry flower`` and ``spry client``: a federation on Flower's nodes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from spry.cli import screen
from spry.cli.runs import SettingsOption


def flower_command(
    action: Annotated[Literal["init"], typer.Argument(help="What to do: init writes a Flower app.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    config: Annotated[
        str | None,
        typer.Option(metavar="CONFIG", help="A TOML file, a preset, or a recipe. Default: quickstart."),
    ] = None,
    settings: SettingsOption = None,
) -> None:
    """Write a Flower app for a run: its settings, keys for TLS and nodes, and a README of three commands.

    With --set runtime.data=nodes each node has data of its own; labels, columns and where texts are cut are then those
    of the data that the configuration names, which only the server reads.
    """
    from spry.experiment.agreed import agreed
    from spry.experiment.config import load_config
    from spry.experiment.flower_folder import write_deployment
    from spry.experiment.recipe import DEFAULT_BASE

    assert action == "init"
    wanted = load_config(config or DEFAULT_BASE, settings or ())
    name = "".join(letter if letter.isalnum() else "-" for letter in folder.resolve().name.lower()).strip("-")
    write_deployment(folder, agreed(wanted), name or "spry")
    screen.say(f"Flower app: {folder}. How it is deployed: {shlex.quote(str(folder / 'README.md'))}")


def client_command(
    serve: Annotated[
        Path, typer.Option(metavar="SOCKET", help="A Unix socket, which only you may open; made here.")
    ],
) -> None:
    """Keep a node's model and data in memory, and answer the messages that its short-lived processes pass on.

    A node that says socket="SOCKET" in its configuration passes them on. Ctrl-C ends it.
    """
    from spry.experiment.warm import keep_warm, make_answering

    try:
        keep_warm(serve, make_answering(), ready=lambda: screen.say(f"Listening at {serve}."))
    except KeyboardInterrupt as error:
        screen.say("Stopped.")
        raise typer.Exit(130) from error
