"""Every recipe is planned without data, weights or a network, and the page says what the plan says."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from spry.core.keys import Key
from spry.core.units import names_of
from spry.experiment.build import build
from spry.experiment.config import Config, load_config
from spry.experiment.cookbook import recipes
from spry.forward.chunking import TAPE
from spry.models.adapters.registry import ADAPTERS
from spry.models.sources import FRIENDLY, is_here
from spry.planning import plan_run
from tests.models.conftest import make

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def page():
    spec = importlib.util.spec_from_file_location("recipes_page", DOCS / "recipes.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_is_planned_and_its_memory_predicted(name, page):
    config = load_config(name)
    if config.model.name in FRIENDLY and not is_here(config.model.name):
        pytest.skip(f"{config.model.name} is not installed")
    plan = plan_run(config)
    body = [unit for unit in plan.units if not unit.head]
    assert len(plan.held) == plan.asked <= plan.clients
    assert all(plan.owners[unit.name] for unit in body), "every unit is trained in every round"
    if config.method.name == "spry":
        assert sum(plan.held) == max(plan.asked, len(body)), "and, split, by no more clients than need be"
        assert plan.peaks["inference"] < plan.peaks["spry"]
    rival = plan.peaks["backprop+checkpointing"]
    assert 0 < plan.peaks[plan.method] < max(rival, TAPE["cpu"])
    assert rival < plan.weight_bytes * 20
    if (
        config.task.name == "causal-lm"
    ):  # the task makes logits by tiles: those of all positions would take more
        rows, vocabulary = config.client.micro_batch_size or config.client.batch_size, 49_152
        assert plan.peaks["backprop+checkpointing"] < rows * plan.length * vocabulary * 4
    assert page.row(name) in page.PAGE.read_text(encoding="utf-8"), "run: python docs/recipes.py"


@pytest.mark.parametrize("kind", sorted({*ADAPTERS, "lora_a", "lora_xs"}))
def test_every_kind_of_adapter_is_planned(kind):
    """Without values, also where its own weights are made of the base's, as singular vectors are."""
    if not is_here("minilm"):
        pytest.skip("minilm is not installed")
    plan = plan_run(load_config("quickstart", {"peft.kind": kind, "peft.exact": "head"}))
    assert (kind == "head") == all(unit.head for unit in plan.units)


def test_a_plan_is_what_the_run_has(tiny_model, tiny_csv):
    """The same units, dealt to the same clients, once weights and data are there."""
    settings = {
        "model.name": str(tiny_model), "model.max_length": 16, "model.device": "cpu", "data.name": str(tiny_csv),
        "data.test": "none", "data.text": ["text"], "data.clients": 4, "schedule.clients_per_round": 2,
    }  # fmt: skip
    config = load_config("recipes/sst2", settings)
    plan, made = plan_run(config), build(config)
    body = [unit for unit in made.algorithm.units if not unit.head]
    assert [(unit.name, unit.size) for unit in plan.units if not unit.head] == [
        (u.name, u.size) for u in body
    ]
    orders = made.algorithm.plan(made.algorithm.init(made.task.init()), range(2), made.key)
    assert plan.held == tuple(
        sum(set(unit.names) <= set(order.trained) for unit in body) for order in orders.values()
    )


@pytest.fixture
def albert(tiny_tokenizer, tmp_path):
    """A folder with a tiny random ALBERT of six layers, which are calls of one block."""
    make("albert", labels=2, num_hidden_layers=6).albert.save_pretrained(tmp_path / "albert")
    tiny_tokenizer.save_pretrained(tmp_path / "albert")
    return tmp_path / "albert"


def test_a_split_deals_the_maps_of_alberts_one_block(albert, tiny_csv):
    """An owner's gradient is autograd's of that map in all layers; the other map stays where it is."""
    config = load_config("recipes/yelp", {
        "model.name": str(albert), "model.device": "cpu", "model.dtype": "float64", "model.max_length": 16,
        "model.dropout": False, "data.name": str(tiny_csv), "data.clients": 4, "schedule.clients_per_round": 4,
        "method.name": "fedavg", "method.split": "cyclic", "client.optimizer": "sgd", "client.lr": 0.1,
        "client.steps": 1,
    })  # fmt: skip
    plan, made = plan_run(config), build(config)
    body = [unit for unit in made.task.units if not unit.head]
    assert [unit.name.rpartition(".")[2] for unit in body] == ["query", "value"]
    assert [plan.owners[unit.name] for unit in body] == [2, 2] and plan.held == (1, 1, 1, 1)
    weights = {n: w + 0.1 * Key(1).normal(n, tuple(w.shape), w) for n, w in made.task.init().items()}
    orders = made.algorithm.plan(made.algorithm.init(weights), made.clients.trainable()[:4], made.key)
    for client, order in orders.items():
        batches = list(made.clients.batches(client, 0, made.key))[:1]
        reply = made.algorithm.train(made.task.loss, order, batches, 1).reply
        (owned,) = (unit for unit in body if set(unit.names) <= set(order.trained))
        own = {n: weights[n].clone().requires_grad_() for n in owned.names}
        loss = made.task.loss(batches[0], made.key, weights)(own)
        for name, gradient in zip(own, torch.autograd.grad(loss, list(own.values())), strict=True):
            assert gradient.abs().max() > 0
            torch.testing.assert_close(reply.payload.values[name], weights[name] - 0.1 * gradient)
        assert set(reply.payload.values) == {*owned.names, *names_of(made.task.units[-1:])}


def test_a_private_plan_says_what_its_rounds_spend():
    """The noise is the least that the budget bears, so that nearly all of it is spent."""
    if not is_here("minilm"):
        pytest.skip("minilm is not installed")
    budget = {
        "privacy.mechanism": "central",
        "privacy.clip": 1.0,
        "privacy.epsilon": 3.0,
        "method.name": "fedavg",
    }
    spent = plan_run(load_config("plain", budget)).privacy
    assert spent is not None and spent.noise > 0
    assert 2.9 < spent.epsilon(Config().schedule.rounds) <= 3.0
