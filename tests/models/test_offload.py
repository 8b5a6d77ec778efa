"""Weights that stay on the disk: the same numbers, two blocks at a time, each read as often as a method must."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.estimators.backprop import backprop
from spry.estimators.projected import forward_gradient
from spry.estimators.residual import residual
from spry.models.load import load_model
from spry.tasks.classification import ClassificationTask

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's map of a process")
LAYERS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_tokenizer):
    from transformers import AutoConfig, AutoModel

    where = tmp_path_factory.mktemp("model")
    config = AutoConfig.for_model(
        "llama",
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        vocab_size=32,
        max_position_embeddings=40,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(where)
    tiny_tokenizer.save_pretrained(where)
    return where


@pytest.fixture(scope="module")
def packed(folder, tmp_path_factory):
    pytest.importorskip("bitsandbytes")
    where = tmp_path_factory.mktemp("packed")
    loaded = load_model(str(folder), labels=2, key=Key(0), quantization="nf4")
    loaded.model.save_pretrained(where)
    loaded.tokenizer.save_pretrained(where)
    return where


def made(folder, reviews, offload):
    task = ClassificationTask(str(folder), labels=3, key=Key(3), offload=offload)
    return task, task.loss(task.encode(reviews, max_length=8).batch(range(3)), Key(0))


@pytest.mark.parametrize("files", ["folder", "packed"])
@pytest.mark.parametrize(
    "estimator",
    [forward_gradient(), backprop(), backprop(checkpoint=True), residual()],
    ids=["forward", "backprop", "checkpoint", "residual"],
)
def test_what_is_learnt_is_the_same(request, files, estimator, reviews):
    where = request.getfixturevalue(files)
    (task, near), (_, far) = made(where, reviews, None), made(where, reviews, "disk")
    weights = {n: w + 0.1 * Key(5).normal(n, tuple(w.shape)) for n, w in task.init().items()}
    one, other = (estimator(loss, weights, Key(1)) for loss in (near, far))
    assert one.value == other.value
    assert all(torch.equal(one.gradient[name], value) for name, value in other.gradient.items())


@pytest.mark.parametrize("files", ["folder", "packed"])
def test_blocks_in_memory_go_on_a_tape_and_those_on_the_disk_do_not(request, files, reviews):
    """The same gradient, but for rounding: one is computed on a tape, the other block by block."""
    where = request.getfixturevalue(files)
    (task, near), (_, far) = made(where, reviews, None), made(where, reviews, "disk")
    assert near.blocks.state_bytes == 256 * 4
    assert far.blocks.state_bytes == 0
    weights = {n: w + 0.1 * Key(5).normal(n, tuple(w.shape)) for n, w in task.init().items()}
    one, other = (residual("full")(loss, weights, Key(1)) for loss in (near, far))
    for name, gradient in one.gradient.items():
        torch.testing.assert_close(other.gradient[name], gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("estimator", "blocks"),
    [
        (forward_gradient(), LAYERS),
        (backprop(checkpoint=True), 2 * LAYERS - 2),
        (residual("full"), 2 * LAYERS - 2),
    ],
    ids=["forward", "checkpoint", "full"],
)
def test_a_block_is_read_once_in_forward_mode_and_twice_where_gradients_go_down(
    folder, estimator, blocks, reviews
):
    task, loss = made(folder, reviews, "disk")
    stream, weights = task.backbone.stream, task.init()
    estimator(loss, weights, Key(0))
    stream.release()
    before = stream.read_bytes
    estimator(loss, weights, Key(0))
    block = 4 * (4 * 256 * 256 + 3 * 256 * 512 + 2 * 256)
    assert (stream.read_bytes - before) / block == pytest.approx(blocks, rel=0.03)  # whole pages are read


def test_two_blocks_are_held_at_a_time(folder, reviews):
    task, loss = made(folder, reviews, "disk")
    held, layers = [], task.backbone.model.model.layers
    weight = layers[0].mlp.up_proj.weight
    for layer in layers:
        layer.register_forward_hook(lambda *_: held.append(resident(weight)))
    forward_gradient()(loss, task.init(), Key(0))
    whole = (folder / "model.safetensors").stat().st_size
    assert len(held) == LAYERS
    assert max(held) < whole / 2, held
    task.backbone.stream.release()
    assert resident(weight) < whole / 4


def resident(weight: torch.Tensor) -> int:
    """Bytes in memory of the mapped file that a weight lies in."""
    inside = False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if span := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(span[1], 16) <= weight.data_ptr() < int(span[2], 16)
        elif inside and line.startswith("Rss:"):
            return 1024 * int(line.split()[1])
    raise AssertionError("it lies in no mapping")


def test_what_cannot_stay_on_the_disk_is_refused(folder, tiny_tokenizer):
    def load(model=str(folder), **settings):
        return load_model(model, labels=2, key=Key(0), offload="disk", tokenizer=tiny_tokenizer, **settings)

    with pytest.raises(ModelError, match=r"cannot be left on the disk.*model\.dtype \(bfloat16\)"):
        load(dtype=torch.bfloat16)
    with pytest.raises(ModelError, match=r"on the CPU, under Linux.*model\.device = 'cpu'"):
        load(device="meta")
    pytest.importorskip("bitsandbytes")
    with pytest.raises(ModelError, match=r"cannot be left on the disk.*leave model\.quantization unset"):
        load(quantization="nf4")
