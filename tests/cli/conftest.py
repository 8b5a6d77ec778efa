"""The command line, called in this process, and a configuration that runs in a second."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spry.cli import main


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


@pytest.fixture
def spry(monkeypatch, capsys, tmp_path):
    """Call ``spry`` with arguments, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["spry", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Result(code=int(ended.value.code or 0), out=captured.out, err=captured.err)

    return call


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory, tiny_model, tiny_csv) -> Path:
    """A TOML file: the tiny model, the tiny data, four clients, four rounds."""
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(f"""
        [model]
        name = "{tiny_model}"
        max_length = 16
        [data]
        name = "{tiny_csv}"
        partition = "iid"
        clients = 4
        [client]
        batch_size = 4
        steps = 2
        [schedule]
        rounds = 4
        clients_per_round = 2
        evaluate_every = 2
        checkpoint_every = 2
    """)
    return path
