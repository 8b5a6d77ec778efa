"""Flow from settings to a run folder: resumed it is the same to the bit, and its shares are in log and report."""

from __future__ import annotations

import json

import pytest
import torch

import spry.contrib.flow  # ruff: ignore[unused-import]  # also where it was installed without
from spry.contrib.flow.policy import NAMES
from spry.experiment.log import read_rounds
from spry.experiment.run import resume, run
from spry.report.answers import tuned_clients
from spry.report.details import local_tuning
from spry.report.read import read_run
from tests.experiment.test_run import config, equal, weights  # ruff: ignore[unused-import]


@pytest.mark.parametrize("gradient", ["residual"])
def test_a_run_that_was_stopped_is_the_same_and_tells_who_answered(gradient, config, tmp_path):  # ruff: ignore[redefined-while-unused]
    asked = config.for_method("flow", 0).with_settings({
        "method.gradient": gradient,
        "schedule.rounds": 2,
        "schedule.evaluate_every": 1,
        "schedule.local_tuning": 1,
    })
    list(run(asked, tmp_path / "whole"))
    stopping = run(asked, tmp_path / "stopped")
    next(stopping), next(stopping)
    stopping.close()
    list(resume(tmp_path / "stopped"))
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))
    files = [(tmp_path / name / "local_tuning.json").read_text() for name in ("whole", "stopped")]
    assert files[0] == files[1]

    held = weights(tmp_path / "whole")
    assert all(f"weights/{name}" in held and torch.any(held[f"weights/{name}"] != 0) for name in NAMES)
    for client in json.loads(files[0])["clients"]:
        gates = client["own_details"]["gates"]
        assert len(gates) == client["held_out"] and all(0 < gate < 1 for gate in gates)
        assert client["own_details"]["local_share"] == sum(gate > 0.5 for gate in gates) / len(gates)
        right = [client["own_details"][f"{who}_right"] for who in ("global", "local")]
        assert sum(right[1]) / len(gates) == client["after"]
        assert client["own_details"]["either_right"] == sum(map(max, *right)) / len(gates) >= client["own"]
    trained = read_rounds(tmp_path / "whole")[-1]["clients"]
    assert all("local_share" in client["personalized_details"] for client in trained)
    done = read_run(tmp_path / "whole")
    assert tuned_clients(done).columns[-2:] == ("answered locally (%)", "one of both right (%)")
    assert "with the method's own model" in local_tuning(done)[0]
    assert not any("method:" in name for name in _adapter(tmp_path / "whole"))


def _adapter(folder):
    from safetensors.torch import load_file

    return load_file(folder / "adapter" / "adapter_model.safetensors")
