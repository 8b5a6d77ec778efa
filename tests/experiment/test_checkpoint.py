"""Checkpoints: whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from spry.core.errors import CheckpointError
from spry.experiment import checkpoint
from spry.federated.algorithm import ServerState
from spry.optim.named import OPTIMIZERS, optimizer


def state(name="yogi", round=3, shape=(2, 3)):
    weights = {
        "base_model.a.lora_A.weight": torch.randn(shape),
        "head.bias": torch.randn(4, dtype=torch.float64),
    }
    server = optimizer(name, lr=0.1)
    _, opt = server.update(
        {n: torch.randn_like(w) for n, w in weights.items()}, server.init(weights), weights
    )
    return ServerState(round=round, weights=weights, optimizer=opt)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_read_is_what_was_written(name, tmp_path):
    written = state(name)
    checkpoint.write_checkpoint(written, tmp_path)
    got = checkpoint.read_checkpoint(tmp_path, state(name, round=0))
    assert got.round == 3
    assert list(got.weights) == list(written.weights)
    assert all(torch.equal(got.weights[n], written.weights[n]) for n in written.weights)
    for slot, tensors in written.optimizer.items():
        assert all(torch.equal(got.optimizer[slot][n], tensors[n]) for n in tensors)


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path, monkeypatch):
    old = state(round=1)
    checkpoint.write_checkpoint(old, tmp_path)

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *rest):
            self.file.close()

        def write(self, data):
            self.file.write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

    real = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda self, *a, **k: Full(real(self, *a, **k)) if self.suffix == ".partial" else real(self, *a, **k),
    )
    with pytest.raises(CheckpointError, match=r"No space left.*is kept"):
        checkpoint.write_checkpoint(state(round=2), tmp_path)
    monkeypatch.undo()
    assert checkpoint.read_checkpoint(tmp_path, old).round == 1
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.CHECKPOINT_FILE]


def test_damage_and_misfits_are_told_apart(tmp_path):
    with pytest.raises(CheckpointError, match="nothing to resume"):
        checkpoint.read_checkpoint(tmp_path, state())
    checkpoint.write_checkpoint(state(), tmp_path)
    with pytest.raises(CheckpointError, match="does not fit"):
        checkpoint.read_checkpoint(tmp_path, state(shape=(3, 3)))
    with pytest.raises(CheckpointError, match="does not fit"):
        checkpoint.read_checkpoint(tmp_path, state("adam"))
    path = tmp_path / checkpoint.CHECKPOINT_FILE
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.read_checkpoint(tmp_path, state())
