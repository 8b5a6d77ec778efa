"""A node is cut off the network in the middle of a round: rounds tell, the run goes on, and the node comes back."""

from __future__ import annotations

import shutil

import pytest

pytest.importorskip("flwr", reason="Flower is not installed (the extra flower)")

from benchmarks.cuts import CUTS, measure
from benchmarks.network import why_not

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("openssl") and shutil.which("ssh-keygen")),
        reason="openssl and ssh-keygen make the keys",
    ),
]


@pytest.fixture(autouse=True, scope="module")
def _networks():
    if (reason := why_not()) is not None:
        pytest.skip(reason)


@pytest.mark.parametrize(
    "name", ["while it trains, for two rounds", "halfway through its reply, for two rounds"]
)
def test_a_node_that_is_cut_off_for_two_rounds_comes_back(name, tiny_model, tiny_csv, tmp_path):
    cut = CUTS[name]
    found = measure(cut, tiny_model, tiny_csv, tmp_path)
    assert found["status"] == "finished:completed"
    failed = [entry["failed"] for entry in found["rounds"]]
    assert failed[0] == {} and failed[-1] == {}, "before the cut, and when it is over"
    assert all(set(one) == {1} for one in failed[1:3]), "the others count"
    assert failed[1][1] == "no reply within 25 s (runtime.deadline)"
    assert found["rounds"][1]["seconds"] < 40
    assert found["same_weights"], "weights are those of a run in which the same replies are missing"
