"""Privacy over a deployment with TLS: weights and ledger are those of ``simulate``, with warm clients and without."""

from __future__ import annotations

import json
import shutil

import pytest

pytest.importorskip("flwr", reason="Flower is not installed (the extra flower)")

from benchmarks.cuts import node_facts, own_files, warm_client
from benchmarks.deployment import Deployment

from spry.experiment.agreed import agreed
from spry.experiment.config import read_config
from spry.experiment.flower_folder import write_app, write_deployment
from spry.experiment.log import read_rounds
from spry.experiment.run import run
from tests.experiment.test_node import equal, weights

NODES, SECONDS = 3, 1500
SETTINGS = {
    "method.name": "fedavg", "model.max_length": 16, "client.steps": 2, "client.batch_size": 4,
    "schedule.rounds": 2, "schedule.clients_per_round": NODES, "schedule.checkpoint_every": 1,
    "schedule.evaluate_every": 2, "data.partition": "column", "data.column": "node", "data.clients": None,
    "runtime.data": "nodes", "runtime.nodes": NODES, "runtime.wait": float(SECONDS), "runtime.threads": 1,
}  # fmt: skip
MASKS = {"privacy.secure_aggregation": True}
NOISE = {"privacy.mechanism": "central", "privacy.clip": 0.1, "privacy.noise": 1.0}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("openssl") and shutil.which("ssh-keygen")),
        reason="openssl and ssh-keygen make the keys",
    ),
]


def test_masks_and_noise_over_tls_give_the_weights_of_one_process(tiny_model, tiny_csv, tmp_path):
    """Two nodes pass messages on to a warm client; the third has a process for each, which all its secrets outlive."""
    files, together = own_files(tiny_csv, tmp_path, NODES)
    own = {"model.name": str(tiny_model), "data.name": str(together), "data.test": str(together)}
    masked, noised = (agreed(read_config("plain", {**SETTINGS, **own, **kept})) for kept in (MASKS, NOISE))
    app, home, warm = tmp_path / "app", tmp_path / "home", tmp_path / "warm"
    write_deployment(app, masked, "masked")
    write_app(tmp_path / "noised", noised, name="noised")
    first, *others = node_facts(files)
    facts = [first, *(f'{fact} socket="{warm}"' for fact in others)]
    with warm_client(warm), Deployment(app, home, facts, {"OMP_NUM_THREADS": "1"}) as deployment:
        for name, at in (("masked", app), ("noised", tmp_path / "noised")):
            status = deployment.run(SECONDS, home / name / "summary.json", at)
            assert status == "finished:completed", deployment.log("superlink")
    for name, config in (("masked", masked), ("noised", noised)):
        here = config.with_settings({"runtime.name": "simulate", "runtime.data": "dealt"})
        list(run(here, tmp_path / "here" / name))
        check(tmp_path / "here" / name, home / name)


def check(here, there):
    assert equal(weights(here), weights(there))
    assert json.loads((there / "summary.json").read_text())["failed_replies"] == 0
    ours, theirs = read_rounds(here), read_rounds(there)
    for name in ("epsilon", "bytes_up", "bytes_down", "test_accuracy"):
        assert [line.get(name) for line in ours] == [line.get(name) for line in theirs], name
