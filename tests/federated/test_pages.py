"""Every method has a page, and the defaults on it are the code's: asked for by name they change nothing at all."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tests.laws import problem
from tests.laws.test_methods import BUILT_IN, CLIENTS, run

from spry.core.keys import Key
from spry.federated.methods import METHODS
from spry.optim.named import optimizer

PAGES = Path(__file__).parents[2] / "docs" / "methods"
SECTIONS = ["Equation", "What is sent", "Cost", "Defaults", "Source", "Where we differ"]


def defaults(name):
    """The table of a page: settings and what stands in the other column."""
    table = (PAGES / f"{name}.md").read_text(encoding="utf-8").split("## Defaults")[1].split("##")[0]
    return dict(re.findall(r"^\| (`[\w.]+`(?:, `[\w.]+`)*) \| (.+) \|$", table, flags=re.MULTILINE))


def named(text, scale=1.0):
    """An optimizer from `name`, lr."""
    found = re.fullmatch(r"`(\w+)`, ([\d.e-]+)", text)
    return optimizer(found[1], lr=scale * float(found[2])) if found else None


def on_page(name):
    """Every default of a page that can be asked for by name."""
    page, given = defaults(name), {}
    for keys, text in page.items():
        first = keys.split(",")[0].strip("`")
        if first in {"client.optimizer", "server.optimizer"}:
            given[first.split(".")[0]] = named(text)
        elif first.startswith("method."):
            given[first.removeprefix("method.")] = text.strip("`")
    return {key: value for key, value in given.items() if value is not None}


def weights(name, **given):
    state = run(name, rounds=7, given=given)[0]
    return torch.cat([w.flatten() for tree in (state.weights, *state.memory.values()) for w in tree.values()])


def test_every_method_has_a_page_and_every_page_a_method():
    assert {path.stem for path in PAGES.glob("*.md")} - {"README"} == set(BUILT_IN)
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\[(\w+)\]\(\1\.md\)", index)) == set(BUILT_IN)


@pytest.mark.parametrize("name", BUILT_IN)
def test_pages_are_alike(name):
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {name}: ")
    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE)[: len(SECTIONS)] == SECTIONS


@pytest.mark.parametrize("name", BUILT_IN)
def test_equations_are_set_apart_from_prose(name):
    """An indented line goes on with the paragraph above it, unless a blank line parts the two."""
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    lines = text.split("## Equation")[1].split("## What")[0].splitlines()
    follows = [above for above, line in pairwise(lines) if line.startswith("    ")]
    assert all(not above or above.startswith("    ") for above in follows)
    assert not any(re.match(r"(client i|server|s_k|g_i)\b", line) for line in lines)


@pytest.mark.parametrize("name", BUILT_IN)
def test_defaults_on_the_page_are_the_defaults(name):
    given = on_page(name)
    optimizers = {key: given.pop(key) for key in ("client", "server") if key in given}
    options = {key: getattr(METHODS[name].parse(given), key) for key in given}
    assert torch.equal(weights(name), weights(name, **optimizers, **options))


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_optimizer_on_the_page_takes_steps_and_one_that_is_not_takes_none(name):
    base, given = weights(name), on_page(name)
    for role in ("client", "server"):
        other = optimizer("sgd", lr=0.5)
        assert (not torch.equal(weights(name, **{role: other}), base)) == (role in given)


@pytest.mark.parametrize("name", BUILT_IN)
def test_who_trains_what(name):
    algorithm = METHODS[name](problem.UNITS)
    orders = algorithm.plan(algorithm.init(problem.weights()), CLIENTS, Key(0)).values()
    trained = [set(order.trained) for order in orders]
    split = on_page(name).get("split")
    if split is not None:
        assert all(t == set(problem.weights()) for t in trained) == (split == "everything")
    assert all(t == {"head.weight", "head.bias"} for t in trained) == (name == "head_only")
