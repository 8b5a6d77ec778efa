"""The residual guess against autograd: exact where it says so, cheap where it says so, refused where it cannot be."""

from __future__ import annotations

import gc
import re
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from tests.models.conftest import ARCHITECTURES, make
from torch import nn
from torch.func import functional_call

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.data.dataset import Dataset
from spry.estimators.backprop import backprop
from spry.estimators.blocks import Blocks
from spry.estimators.exact import exact_head
from spry.estimators.residual import residual
from spry.measure.meter import tensor_peak
from spry.measure.operations import OperationCounter
from spry.models.adapters import Lora
from spry.tasks.classification import ClassificationTask

GUESSES = ["identity", "norm", "mlp", "full"]
DEPTH = 6
CHAINS = [kind for kind in ARCHITECTURES if kind != "albert"]
"""What has weights of its own in each block."""
DEEP = {"distilbert": ["n_layers"], "gpt2": ["n_layer"]}
"""What the number of blocks is called, where it has an unusual name."""
NO_SIZES: dict[str, int] = {}


def setting(kind, tokenizer, dataset, *, depth=DEPTH, length=16, wide=NO_SIZES, **options):
    """A task on a random model in float64, its weights away from the start, and all texts as one batch."""
    options = {"adapter": Lora(rank=2), "dtype": torch.float64, **options}
    sizes = dict.fromkeys(DEEP.get(kind, ["num_hidden_layers"]), depth)
    model = make(kind, **sizes, **wide)
    task = ClassificationTask(model, labels=3, key=Key(3), tokenizer=tokenizer, **options)
    weights = {
        name: value + 0.3 * Key(5).normal(name, tuple(value.shape), like=value)
        for name, value in task.init().items()
    }
    encoded = task.encode(dataset, max_length=length)
    return task, weights, encoded.batch(range(len(dataset.texts)))


def close(found, true):
    """To float64's rounding, or to float32's, in which Llama's norms compute."""
    torch.testing.assert_close(found, true, rtol=1e-4, atol=1e-6)


def block_of(task, name):
    """The block that a weight lies in, the number of blocks for what is above them."""
    inside = [i for i, prefix in enumerate(task.blocks.prefixes) if name.startswith(prefix)]
    return inside[0] if inside else len(task.blocks)


@pytest.mark.parametrize("guess", GUESSES)
@pytest.mark.parametrize(
    ("kind", "exact"), [*((kind, "head") for kind in CHAINS), ("bert", "auto"), ("llama", "auto")]
)
def test_the_last_two_blocks_are_exact(kind, guess, exact, tiny_tokenizer, reviews):
    """Everything from the last but one block on equals autograd's gradient; the guess below points its way."""
    if kind == "deberta-v2" and guess == "mlp":
        pytest.skip("its attention is written out: refused, see below")
    task, weights, batch = setting(kind, tiny_tokenizer, reviews, exact=exact)
    loss = task.loss(batch, Key(0))
    found, true = (make(loss, weights, Key(1)) for make in (residual(guess), backprop()))
    assert found.value == pytest.approx(true.value, abs=1e-12)
    assert found.gradient.keys() == true.gradient.keys()
    for name, gradient in found.gradient.items():
        if block_of(task, name) >= DEPTH - 2:
            close(gradient, true.gradient[name])
    lower = [name for name in weights if block_of(task, name) < DEPTH - 2]
    flat = [torch.cat([one.gradient[name].flatten() for name in lower]) for one in (found, true)]
    assert lower
    assert torch.cosine_similarity(*flat, dim=0) > 0.05


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_full_is_autograd_everywhere(kind, tiny_tokenizer, reviews):
    """Whatever the architecture, with dropout, and with blocks that share their weights."""
    task, weights, batch = setting(kind, tiny_tokenizer, reviews, dropout=True)
    loss = task.loss(batch, Key(7))
    found, true = (make(loss, weights, Key(1)) for make in (residual("full"), backprop()))
    assert found.value == pytest.approx(true.value, abs=1e-12)
    assert found.gradient.keys() == true.gradient.keys()
    for name, gradient in found.gradient.items():
        close(gradient, true.gradient[name])


@pytest.mark.parametrize("guess", GUESSES)
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_slice_gets_what_the_whole_gets(kind, guess, tiny_tokenizer, reviews):
    """Whoever owns one block, two or all: the same numbers, whether inputs are kept or a second pass makes them."""
    task, weights, batch = setting(kind, tiny_tokenizer, reviews)
    whole = residual(guess)(task.loss(batch, Key(0)), weights, Key(1)).gradient
    for owned in ({0}, {1, 3}, set(range(DEPTH - 1)), {DEPTH}, {DEPTH - 1}):
        own = {name: weight for name, weight in weights.items() if block_of(task, name) in owned}
        base = {name: weight for name, weight in weights.items() if name not in own}
        part = residual(guess)(task.loss(batch, Key(0), base), own, Key(1)).gradient
        assert part.keys() == own.keys()
        for name in own:
            close(part[name], whole[name])


@pytest.mark.parametrize("guess", GUESSES)
@pytest.mark.parametrize("kind", ["bert", "llama", "gpt_neox"])
def test_micro_batches(kind, guess, tiny_tokenizer, reviews):
    """The gradient is the examples' mean at any micro-batch, one of one example included."""
    task, weights, batch = setting(kind, tiny_tokenizer, reviews)
    whole = residual(guess)(task.loss(batch, Key(0)), weights, Key(1))
    for size in (1, 2):
        task.micro_batch_size = size
        parts = residual(guess)(task.loss(batch, Key(0)), weights, Key(1))
        assert parts.value == pytest.approx(whole.value, abs=1e-12)
        for name, gradient in whole.gradient.items():
            close(parts.gradient[name], gradient)


@pytest.mark.parametrize("guess", GUESSES)
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_dropout_draws_the_masks_of_the_loss(kind, guess, tiny_tokenizer, reviews):
    task, weights, batch = setting(kind, tiny_tokenizer, reviews, dropout=True)
    loss = task.loss(batch, Key(7))
    found, true = (make(loss, weights, Key(1)) for make in (residual(guess), backprop()))
    assert found.value == pytest.approx(true.value, abs=1e-12)
    assert found.value != task.loss(batch, Key(8))(weights).item()
    for name, gradient in found.gradient.items():
        if block_of(task, name) >= DEPTH - 2:
            close(gradient, true.gradient[name])
    kept = {name: weight for name, weight in weights.items() if block_of(task, name) in {0}}
    base = {name: weight for name, weight in weights.items() if name not in kept}
    alone = residual(guess)(task.loss(batch, Key(7), base), kept, Key(1)).gradient
    for name in kept:
        close(alone[name], found.gradient[name])


def untied(task, weights, tokenizer, groups):
    """The same ALBERT with as many copies of its block as it has layers, and the copies' weights."""
    model = make("albert", num_hidden_layers=DEPTH, num_hidden_groups=groups)
    copies = ClassificationTask(
        model, labels=3, key=Key(3), tokenizer=tokenizer, adapter=Lora(rank=2), dtype=torch.float64
    )

    def original(name):
        return re.sub(r"layer_groups\.\d+\.", "layer_groups.0.", name)

    tied = dict(task.module.named_parameters())
    with torch.no_grad():
        for name, weight in copies.module.named_parameters():
            weight.copy_(tied[original(name)])
    return copies, {name: weights[original(name)] for name in copies.init()}, original


@pytest.mark.parametrize("guess", GUESSES)
def test_a_shared_block_gets_the_sum_over_its_calls(guess, tiny_tokenizer, reviews):
    """ALBERT's gradient is the sum over the layers of the same model with untied weights, of which two are exact."""
    task, weights, batch = setting("albert", tiny_tokenizer, reviews)
    copies, own, original = untied(task, weights, tiny_tokenizer, DEPTH)
    tied = residual(guess)(task.loss(batch, Key(0)), weights, Key(1))
    apart, true = (make(copies.loss(batch, Key(0)), own, Key(1)) for make in (residual(guess), backprop()))
    assert tied.value == pytest.approx(apart.value, abs=1e-12)
    sums = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for name, gradient in apart.gradient.items():
        sums[original(name)] += gradient
        if block_of(copies, name) >= DEPTH - 2:
            close(gradient, true.gradient[name])
    assert tied.gradient.keys() == weights.keys()
    for name, gradient in tied.gradient.items():
        close(gradient, sums[name])
    exact = backprop()(task.loss(batch, Key(0)), weights, Key(1)).gradient
    flat = [torch.cat([one[name].flatten() for name in weights]) for one in (tied.gradient, exact)]
    assert torch.cosine_similarity(*flat, dim=0) > 0.3


@pytest.mark.parametrize("guess", GUESSES)
def test_a_shared_block_of_two_calls_is_autograds_everywhere(guess, tiny_tokenizer, reviews):
    task, weights, batch = setting("albert", tiny_tokenizer, reviews, depth=2, dropout=True)
    loss = task.loss(batch, Key(7))
    found, true = (make(loss, weights, Key(1)) for make in (residual(guess), backprop()))
    assert found.value == pytest.approx(true.value, abs=1e-12)
    for name in weights:
        close(found.gradient[name], true.gradient[name])


@pytest.mark.parametrize("guess", GUESSES)
def test_calls_of_a_shared_block_are_drawn_for_each_step(guess, tiny_tokenizer, reviews):
    """The last call is always there; drawn ones add to it, and with all of them it is the whole."""
    task, weights, batch = setting("albert", tiny_tokenizer, reviews, depth=3)
    loss = task.loss(batch, Key(0))
    whole, top = (residual(guess, count)(loss, weights, Key(1)).gradient for count in ("all", 0))
    seen = [residual(guess, 1)(loss, weights, Key(step)).gradient for step in range(12)]
    name = next(name for name in weights if "lora_B" in name)
    parts = {tuple((one[name] - top[name]).flatten().tolist()): one for one in seen}
    assert len(parts) == 2
    for name in weights:
        first, second = (one[name] for one in parts.values())
        close(first + second - top[name], whole[name])


class Mixer(nn.Module):
    """A residual block without attention: ``h + W2 tanh(W1 norm(h))``."""

    def __init__(self, width):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 7), nn.Linear(7, width)

    def forward(self, hidden):
        attention = F.scaled_dot_product_attention(*[hidden.detach()[:, None]] * 3)[:, 0]  # of constants
        return hidden + self.down(torch.tanh(self.up(self.norm(hidden)))) + 0.1 * attention


class Mixers:
    """Residual blocks without attention of what is trained, as a loss."""

    def __init__(self, depth=5, width=6):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.module = nn.Sequential(
                nn.ModuleList(Mixer(width) for _ in range(depth)), nn.Linear(width, 3)
            ).double()
            self.x, self.y = torch.randn(4, 3, width).double(), torch.tensor([0, 1, 2, 1])
        blocks = tuple(self.module[0])
        self.blocks = Blocks(
            modules=blocks,
            prefixes=tuple(f"0.{i}." for i in range(depth)),
            maps=tuple((block.up, block.down) for block in blocks),
        )
        self.module.requires_grad_(False)
        self.module.forward = self.forward

    def forward(self, x):
        for block in self.module[0]:
            x = block(x)
        return self.module[1](x[:, 0])

    def __call__(self, params, *, checkpoint=False):
        return F.cross_entropy(functional_call(self.module, dict(params), (self.x,)), self.y)

    def microbatches(self):
        return [(1.0, self)]


def test_without_attention_mlp_is_autograd_everywhere():
    loss = Mixers()
    weights = {name: weight.detach().clone() for name, weight in loss.module.named_parameters()}
    found, true = (make(loss, weights, Key(0)).gradient for make in (residual("mlp"), backprop()))
    for name in weights:
        close(found[name], true[name])


def test_norm_is_autograd_through_norms_and_sums():
    """The oracle computes the same blocks with the outputs of their maps detached, by autograd alone."""
    loss = Mixers()
    weights = {name: weight.detach().clone() for name, weight in loss.module.named_parameters()}
    found = residual("norm")(loss, weights, Key(0)).gradient
    hidden = [loss.x.clone().requires_grad_()]
    for block in loss.blocks.modules[:-1]:
        hidden.append(hidden[-1] + block.down(torch.tanh(block.up(block.norm(hidden[-1])))).detach())
        hidden[-1] = (
            hidden[-1] + 0.1 * F.scaled_dot_product_attention(*[hidden[-2].detach()[:, None]] * 3)[:, 0]
        )
    logits = loss.module[1](loss.blocks.modules[-1](hidden[-1])[:, 0])
    guesses = torch.autograd.grad(F.cross_entropy(logits, loss.y), hidden)
    for index, block in enumerate(loss.blocks.modules[:-1]):
        leaves = {n: w.detach().clone().requires_grad_() for n, w in block.named_parameters()}
        out = functional_call(block, leaves, (hidden[index].detach(),))
        expected = torch.autograd.grad(out, list(leaves.values()), guesses[index + 1])
        for name, gradient in zip(leaves, expected, strict=True):
            close(found[f"0.{index}.{name}"], gradient)


def test_blocks_are_drawn_for_each_step(tiny_tokenizer, reviews):
    """A step's gradient lacks the names of blocks that it is not for; over steps each block gets its turn."""
    task, weights, batch = setting("bert", tiny_tokenizer, reviews)
    loss = task.loss(batch, Key(0))
    whole = residual()(loss, weights, Key(1)).gradient
    seen = []
    for step in range(30):
        part = residual(blocks_per_step=1)(loss, weights, Key(step)).gradient
        below = {block_of(task, name) for name in part if block_of(task, name) < DEPTH - 1}
        assert len(below) == 1
        seen += below
        for name, gradient in part.items():
            close(gradient, whole[name])
    assert set(seen) == set(range(DEPTH - 1))
    top = residual(blocks_per_step=0)(loss, weights, Key(1)).gradient
    exact = exact_head()(
        task.loss(batch, Key(0), {n: w for n, w in weights.items() if n not in top}),
        {n: weights[n] for n in top},
        Key(1),
    ).gradient
    assert top.keys() == exact.keys() == {n for n in weights if block_of(task, n) >= DEPTH - 1}
    assert all(torch.equal(top[name], exact[name]) for name in top)


@pytest.mark.parametrize("guess", GUESSES)
def test_a_depth_is_drawn_for_each_step(guess, tiny_tokenizer, reviews):
    """A step is for all blocks from a drawn one on; what they get is what they get of the whole."""
    task, weights, batch = setting("bert", tiny_tokenizer, reviews)
    loss = task.loss(batch, Key(0))
    whole = residual(guess)(loss, weights, Key(1)).gradient
    lowest = []
    for step in range(30):
        part = residual(guess, "drawn")(loss, weights, Key(step)).gradient
        lowest.append(min(block_of(task, name) for name in part))
        assert part.keys() == {name for name in weights if block_of(task, name) >= lowest[-1]}
        for name, gradient in part.items():
            close(gradient, whole[name])
    assert set(lowest) == set(range(DEPTH - 1))


@pytest.mark.parametrize("size", [1, 2])
def test_hostile_shapes(size, tiny_tokenizer):
    """Texts of one token beside longer ones, padded on either side."""
    dataset = Dataset(
        name="short",
        texts=["good", "a very bad film"][:size],
        labels=[0, 1][:size],
        label_names=("a", "b", "c"),
    )
    for side in ("left", "right"):
        tokenizer = tiny_tokenizer.__class__(
            tokenizer_object=tiny_tokenizer._tokenizer, pad_token="[PAD]", padding_side=side
        )
        for kind in ("bert", "llama"):
            task, weights, batch = setting(kind, tokenizer, dataset)
            loss = task.loss(batch, Key(0))
            found, true = (make(loss, weights, Key(1)).gradient for make in (residual("mlp"), backprop()))
            for name in weights:
                if block_of(task, name) >= DEPTH - 2:
                    close(found[name], true[name])


def test_a_loss_that_is_no_number_gives_gradients_that_are_none(tiny_tokenizer, reviews):
    """The reply is refused by whoever validates it; nothing hangs and nothing is hidden."""
    task, weights, batch = setting("bert", tiny_tokenizer, reviews)
    bad = {name: weight * float("nan") for name, weight in weights.items()}
    found = residual()(task.loss(batch, Key(0)), bad, Key(1))
    assert found.value != found.value


def test_memory_does_not_grow_with_depth(tiny_tokenizer):
    """From 6 to 24 blocks, all of them owned, the peak of ``identity`` grows by less than 5 %."""
    dataset = Dataset(
        name="long", texts=["a good film " * 12] * 16, labels=[0, 1] * 8, label_names=("a", "b", "c")
    )

    def peak(depth, estimator):
        task, weights, batch = setting(
            "bert", tiny_tokenizer, dataset, depth=depth, length=32, adapter=Lora(rank=1)
        )
        loss = task.loss(batch, Key(0))
        estimator(loss, weights, Key(1))
        gc.collect()
        gradient = sum(
            weight.nbytes for weight in weights.values()
        )  # leaves, sums and results are what is trained
        return tensor_peak(lambda: estimator(loss, weights, Key(1))) - 4 * gradient

    few, many = (peak(depth, residual()) for depth in (6, 24))
    assert many <= 1.05 * few
    assert peak(24, backprop(checkpoint=True)) > 1.5 * peak(6, backprop(checkpoint=True))


def test_operations(tiny_tokenizer, reviews):
    """In units of one inference of a 12-block model: an owner of one block needs little more than one of them."""
    wide = {"hidden_size": 96, "intermediate_size": 384}
    task, weights, batch = setting("bert", tiny_tokenizer, reviews, depth=12, wide=wide)
    loss = task.loss(batch, Key(0))
    assert len(task.blocks) == 12  # finding them runs the model, once

    def operations(estimator):
        with OperationCounter() as counter:
            estimator(loss, weights, Key(1))
        return counter.total

    with OperationCounter() as counter, torch.no_grad():
        loss(weights)
    assert operations(residual(blocks_per_step=1)) < 1.3 * counter.total
    assert operations(residual(blocks_per_step=2)) < 1.5 * counter.total
    assert operations(residual()) < operations(backprop(checkpoint=True))


def test_attention_that_is_written_out_cannot_be_left_out(tiny_tokenizer, reviews):
    task, weights, batch = setting("deberta-v2", tiny_tokenizer, reviews)
    with pytest.raises(ModelError, match=r"computes attention by other means.*method\.guess = 'identity'"):
        residual("mlp")(task.loss(batch, Key(0)), weights, Key(1))


def test_a_loss_without_blocks_is_refused():
    loss = SimpleNamespace(microbatches=lambda: [])
    with pytest.raises(ModelError, match="does not say which residual blocks"):
        residual()(loss, {}, Key(0))
