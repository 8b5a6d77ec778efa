"""Every method has a page, pages are alike, and who steps and who trains what is as they say."""

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
from spry.optim import sgd

PAGES = Path(__file__).parents[2] / "docs" / "methods"
SECTIONS = ["Equation", "What is sent", "Cost", "Defaults", "Source", "Where we differ"]


def page(name):
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def defaults(name):
    table = page(name).split("## Defaults")[1].split("##")[0]
    return dict(re.findall(r"^\| `(.+?)`(?:, .+)? \| (.+) \|$", table, flags=re.MULTILINE))


def weights(name, **given):
    state = run(name, rounds=7, given=given)[0]
    return torch.cat([w.flatten() for tree in (state.weights, *state.memory.values()) for w in tree.values()])


def test_every_method_has_a_page_and_every_page_a_method():
    pages = {path.stem for path in PAGES.glob("*.md")} - {"README"}
    assert pages == set(BUILT_IN)
    assert re.findall(r"\[(\w+)\]\(\1\.md\)", page("README")) == BUILT_IN


@pytest.mark.parametrize("name", BUILT_IN)
def test_pages_are_alike(name):
    assert page(name).startswith(f"# {name}: ")
    headings = re.findall(r"^## (.+)$", page(name), flags=re.MULTILINE)
    assert headings[: len(SECTIONS)] == SECTIONS  # variants may follow


@pytest.mark.parametrize("name", BUILT_IN)
def test_equations_are_set_apart_from_prose(name):
    """An indented line goes on with the paragraph above it, unless a blank line parts the two."""
    lines = page(name).split("## Equation")[1].split("## What")[0].splitlines()
    follows = [above for above, line in pairwise(lines) if line.startswith("    ")]
    assert all(not above or above.startswith("    ") for above in follows)
    assert not any(re.match(r"(client i|server|s_k|g_i)\b", line) for line in lines)


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("name", BUILT_IN)
def test_another_optimizer_matters_where_the_page_says_that_a_step_is_taken(name, side):
    differs = not torch.equal(weights(name), weights(name, **{side: sgd(0.37)}))
    assert differs == (defaults(name)[f"{side}.optimizer"] != "takes no step")


@pytest.mark.parametrize("name", BUILT_IN)
def test_who_trains_what(name):
    algorithm = METHODS[name](problem.UNITS)
    orders = algorithm.plan(algorithm.init(problem.weights()), CLIENTS, Key(0)).values()
    trained = [set(order.trained) for order in orders]
    row = re.search(rf"\[{name}\].*", page("README"))[0].split(" | ")[2]
    everything, head = set(problem.weights()), {"head.weight", "head.bias"}
    kinds = {"all": all(t == everything for t in trained), "the head": all(t == head for t in trained)}
    assert kinds.get(row, not any(kinds.values())), row
