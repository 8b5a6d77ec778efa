"""The stage of local tuning in a run: its file, its numbers, that it changes nothing else, and who is refused."""

from __future__ import annotations

import json

import pytest
from tests.experiment.test_run import config, equal, weights  # ruff: ignore[unused-import]

from spry.core.errors import ConfigError
from spry.experiment.build import check_settings
from spry.experiment.local_tuning import LOCAL_TUNING
from spry.experiment.run import run
from spry.report.answers import tuned_clients
from spry.report.details import local_tuning
from spry.report.read import read_run


@pytest.fixture
def short(config):  # ruff: ignore[redefined-while-unused]
    return config.for_method("fedavg", 0).with_settings({"schedule.rounds": 1, "schedule.test": False})


def test_it_is_reported_apart_and_leaves_the_run_as_it_was(short, tmp_path):
    list(run(short, tmp_path / "without"))
    tuning = short.with_settings({"schedule.local_tuning": 2})
    list(run(tuning, tmp_path / "with"))
    assert equal(weights(tmp_path / "without"), weights(tmp_path / "with"))
    plain, summary = (json.loads((tmp_path / n / "summary.json").read_text()) for n in ("without", "with"))
    assert "local_tuning" not in plain and not (tmp_path / "without" / LOCAL_TUNING).exists()
    told = json.loads((tmp_path / "with" / LOCAL_TUNING).read_text())
    held = sum(client["held_out"] for client in told["clients"])
    before = sum(client["held_out"] * client["before"] for client in told["clients"])
    assert summary["local_tuning"]["before"] == pytest.approx(before / held)
    assert summary["local_tuning"]["steps"] == 2 and summary["local_tuning"]["own"] is None

    done = read_run(tmp_path / "with")
    assert len(tuned_clients(done).rows) == len(told["clients"])
    assert "2 steps of each of" in local_tuning(done)[0]
    assert not local_tuning(read_run(tmp_path / "without"))

    list(run(tuning, tmp_path / "without", resume=True))  # a finished run is tuned later, to the same end
    assert json.loads((tmp_path / "without" / LOCAL_TUNING).read_text()) == told


def test_a_method_whose_clients_take_no_steps_is_refused(short):
    asked = short.for_method("fedsgd", 0).with_settings({"schedule.local_tuning": 2})
    with pytest.raises(ConfigError, match=r"take no steps.*such as fedavg"):
        check_settings(asked)
