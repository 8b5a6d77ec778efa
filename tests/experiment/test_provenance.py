"""What is written beside a result."""

from __future__ import annotations

import json
import subprocess

from spry.experiment import provenance as module
from spry.experiment.provenance import provenance


def test_it_is_json_and_names_what_matters():
    made = json.loads(json.dumps(provenance()))
    assert made["versions"]["torch"] and made["machine"]["cpus"] >= 1 and made["date"].endswith("+00:00")


def test_without_git_or_outside_a_checkout_there_is_no_commit(monkeypatch):
    def missing(*args, **kwargs):
        raise FileNotFoundError

    monkeypatch.setattr(module.subprocess, "run", missing)
    assert provenance()["commit"] is None

    def untracked(command, **kwargs):
        return subprocess.CompletedProcess(command, 0, "" if "ls-files" in command else "abc\n", "")

    monkeypatch.setattr(module.subprocess, "run", untracked)
    assert provenance()["commit"] is None


def test_the_command_names_no_folders_of_the_machine(monkeypatch):
    given = [
        "/opt/tool.py",
        "--data",
        "/data/x/a.tsv",
        "data.name=/data/x/b.tsv",
        "--out",
        "runs/c",
        "lr=1/2",
    ]
    monkeypatch.setattr(module.sys, "argv", given)
    assert provenance()["command"] == [
        "tool.py",
        "--data",
        "a.tsv",
        "data.name=b.tsv",
        "--out",
        "runs/c",
        "lr=1/2",
    ]
