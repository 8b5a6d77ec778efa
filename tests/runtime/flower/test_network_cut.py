"""A node is cut off the network in the middle of a round: rounds tell, the run goes on, and the node comes back."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

pytest.importorskip("flwr", reason="Flower is not installed (the extra flower)")

from benchmarks.cuts import COMPLETED, CUTS, measure
from benchmarks.network import why_not

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("openssl") and shutil.which("ssh-keygen")),
        reason="openssl and ssh-keygen make the keys",
    ),
]


DEADLINE, ROUNDS = 45.0, 12
"""A busy machine takes a while for a round, and a node up to a minute to try again."""


@pytest.fixture(autouse=True, scope="module")
def _networks():
    if (reason := why_not()) is not None:
        pytest.skip(reason)


@pytest.mark.parametrize(
    "name", ["while it trains, for two rounds", "halfway through its reply, for two rounds"]
)
def test_a_node_that_is_cut_off_for_two_rounds_comes_back(name, tiny_model, tiny_csv, tmp_path):
    own = {"runtime.deadline": DEADLINE, "schedule.rounds": ROUNDS}
    cut = replace(CUTS[name], settings={**CUTS[name].settings, **own})
    found = measure(cut, tiny_model, tiny_csv, tmp_path)
    assert found["status"] == COMPLETED
    failed = [entry["failed"] for entry in found["rounds"]]
    assert failed[0] == {} and failed[-1] == {}, "before the cut, and when it is over"
    assert all(set(one) == {1} for one in failed[1:3]), "the others count"
    assert failed[1][1].startswith(("no reply within 45 s", "Node Unavailable"))
    assert all(entry["seconds"] < DEADLINE + 10 for entry in found["rounds"])
    assert found["same_weights"], "weights are those of a run in which the same replies are missing"
