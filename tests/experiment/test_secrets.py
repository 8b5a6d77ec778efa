"""Tokens and passwords of the environment are in no file of a run, no line on the screen, and no trace."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from spry.cli.failures import report
from spry.experiment.config import read_config
from spry.experiment.run import run

SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "SPRY_PASSWORD")
CANARY = "hf_canaryCANARYcanary"


@pytest.fixture
def _secrets(monkeypatch):
    for name in SECRETS:
        monkeypatch.setenv(name, CANARY)


@pytest.mark.usefixtures("_secrets")
def test_no_file_of_a_run_and_no_line_has_a_secret(tiny_model, tiny_csv, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("SPRY_PLACE", str(tiny_csv.parent))
    settings = {
        "model.name": str(tiny_model), "data.name": "$SPRY_PLACE/reviews.csv", "data.clients": 4,
        "schedule.rounds": 1, "schedule.clients_per_round": 2, "client.steps": 1,
    }  # fmt: skip
    list(run(read_config("plain", settings), tmp_path / "run"))
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {"config.toml", "meta.json", "rounds.jsonl"} <= {path.name for path in files}
    for path in files:
        assert CANARY.encode() not in path.read_bytes(), path
    assert CANARY not in "".join(capfd.readouterr())


@pytest.mark.usefixtures("_secrets")
def test_a_trace_has_no_secret():
    def fail(token):
        raise KeyError("no such model")

    try:
        fail(os.environ["HF_TOKEN"])
    except KeyError as error:
        told = report(error)
    (trace,) = (Path(word.rstrip(".,")) for word in told.split() if "spry-trace-" in word)
    assert CANARY not in told + trace.read_text(encoding="utf-8")
    trace.unlink()


def test_where_noise_comes_from_is_in_no_file_of_a_run_and_no_line(
    tiny_model, tiny_csv, tmp_path, monkeypatch, capfd, caplog
):
    """Whoever knew it could take the noise away again."""
    number, word = 0xC0FFEE5EC2E7C0DE, "5ec2e7" * 10
    monkeypatch.setattr("spry.experiment.private.secrets.randbits", lambda bits: number)
    monkeypatch.setattr("spry.experiment.private.secrets.token_hex", lambda count: word)
    settings = {
        "model.name": str(tiny_model), "data.name": str(tiny_csv), "data.clients": 4, "schedule.rounds": 1,
        "schedule.clients_per_round": 2, "schedule.checkpoint_every": 1, "client.steps": 1,
        "privacy.mechanism": "central", "privacy.noise": 1.0, "privacy.clip": 0.1, "privacy.seed": "secret",
    }  # fmt: skip
    with caplog.at_level(logging.DEBUG):
        *_, found = run(read_config("plain", settings), tmp_path / "run")
    assert found.epsilon
    told = [path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()]
    told.append("".join([*capfd.readouterr(), caplog.text]).encode())
    forms = [
        word.encode(),
        str(number).encode(),
        f"{number:x}".encode(),
        number.to_bytes(8),
        number.to_bytes(8, "little"),
    ]
    assert not any(form in data for form in forms for data in told)
