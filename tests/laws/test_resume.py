"""A run that is stopped, written to disk and read back goes on as if it had never stopped, for every method."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from spry.core.errors import CheckpointError
from spry.experiment import checkpoint
from spry.federated.ema import delivered
from spry.federated.methods import METHODS
from tests.laws import problem
from tests.laws.test_methods import VARIANTS, make, run


@pytest.mark.parametrize("stop", [1, 2, 4])
@pytest.mark.parametrize("name", VARIANTS)
def test_through_a_checkpoint(name, stop, tmp_path):
    given = {"rounds": 20}
    whole = run(name, rounds=9, given=given)[0]
    checkpoint.write_checkpoint(run(name, rounds=stop, given=given)[0], tmp_path)
    fresh = make(name, **given).init(problem.weights())
    rest = run(name, rounds=9, given=given, state=checkpoint.read_checkpoint(tmp_path, fresh))[0]
    assert all(torch.equal(whole.weights[n], rest.weights[n]) for n in whole.weights)
    assert whole.memory.keys() == rest.memory.keys()
    for slot, tensors in whole.memory.items():
        assert all(torch.equal(tensors[n], rest.memory[slot][n]) for n in tensors)


GROWING = [name for name, (method, _) in VARIANTS.items() if not METHODS[method].plans_rounds]


@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize("name", GROWING)
def test_a_run_made_longer_is_the_longer_run(name, decay, tmp_path):
    whole = run(name, rounds=9, given={"rounds": 9}, decay=decay)[0]
    checkpoint.write_checkpoint(run(name, rounds=4, given={"rounds": 4}, decay=decay)[0], tmp_path)
    fresh = make(name, rounds=9).init(problem.weights())
    state = checkpoint.read_checkpoint(tmp_path, fresh)
    rest = run(name, rounds=9, given={"rounds": 9}, decay=decay, state=state)[0]
    for left, right in ((whole.weights, rest.weights), (delivered(whole), delivered(rest))):
        assert all(torch.equal(left[n], right[n]) for n in left)


def test_what_plans_its_rounds_would_not_be_the_longer_run():
    """Or it could be made longer, too."""
    planned = {name for name in VARIANTS if name not in GROWING}
    assert planned == {"fwdllm"}
    steps = [run("fwdllm", rounds=5, given={"rounds": rounds, "threshold": 1e12})[0] for rounds in (5, 9)]
    assert any(not torch.equal(steps[0].weights[n], steps[1].weights[n]) for n in steps[0].weights)


def test_a_memory_of_another_model_is_refused(tmp_path):
    state = run("fwdllm", rounds=5, given={"threshold": 1e12})[0]
    other = {slot: {n: v[:1] for n, v in tensors.items()} for slot, tensors in state.memory.items()}
    checkpoint.write_checkpoint(replace(state, memory=other), tmp_path)
    with pytest.raises(CheckpointError, match="does not fit"):
        checkpoint.read_checkpoint(tmp_path, state)
