"""Help says what every argument and option is for: a pair of typer and click once printed arguments without it."""

from __future__ import annotations

import re
import shlex

import pytest
import typer

from spry.cli.app import app

COMMANDS = typer.main.get_command(app).commands


def words(text: str) -> str:
    """The text without the frames and line breaks that help has."""
    return " ".join(re.sub(r"[^\w\s.,:;()'=-]", " ", text).split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_argument_and_option_is_explained(spry, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "400")
    result = spry(name, "--help")
    assert result.code == 0
    for parameter in COMMANDS[name].params:
        if getattr(parameter, "hidden", False):
            continue
        assert parameter.help, f"{parameter.name} has no help"
        assert words(parameter.help) in words(result.out), parameter.name


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_is_one_of_a_command_with_arguments_that_it_has(name):
    example = COMMANDS[name].epilog.removeprefix("Example: ")
    spry, command, *arguments = shlex.split(example)
    assert spry == "spry" and (command == name or name in {"recipes", "methods", "datasets"})
    COMMANDS[command].make_context(command, arguments)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_80_columns(spry, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, spry(name, "--help").out.splitlines())) <= 80
