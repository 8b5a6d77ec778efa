"""Every method has a page, and the defaults it names are the code's: asked for by name they change nothing at all."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from spry.federated.fwdllm import Pacing
from spry.federated.settings import Settings
from tests.laws import problem
from tests.laws.test_methods import CLIENTS, run

from spry.core.keys import Key
from spry.experiment.build import DIFFERENCES, DIRECTIONS, SPLITS
from spry.experiment.config import Config
from spry.federated.methods import METHODS, method
from spry.optim.named import optimizer

PAGES = Path(__file__).parents[2] / "docs" / "methods"
SECTIONS = ["Equation", "What is sent", "Cost", "Defaults", "Source", "Where we differ"]


def defaults(name):
    table = (PAGES / f"{name}.md").read_text(encoding="utf-8").split("## Defaults")[1].split("##")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", table, flags=re.MULTILINE))


def named(text, scale=1.0):
    """An optimizer from `name`, lr number."""
    found = re.fullmatch(r"`(\w+)`, lr ([\d.]+)", text)
    return optimizer(found[1], lr=scale * float(found[2])) if found else None


def chosen(page, **changes):
    """Settings that name every default of a page."""
    pace = {k: type(getattr(Pacing(), k))(page[k]) for k in ("threshold", "devices", "attempts") if k in page}
    return Settings(**{
        "client": named(page["client"]),
        "server": named(page["server"]),
        "split": SPLITS.get(page["split"].strip("`")),
        "count": int(page.get("count", 1)),
        "directions": DIRECTIONS[page.get("directions", "gaussian").strip("`")],
        "pool": int(page["pool"]) if "pool" in page else None,
        "h": float(page["h"]) if "h" in page else None,
        "difference": DIFFERENCES[page["difference"].strip("`")] if "difference" in page else None,
        "exact_head": page.get("exact_head", "true") == "true",
        "pacing": Pacing(**pace),
        **changes,
    })  # fmt: skip


def weights(name, settings):
    state = run(name, rounds=7, settings=settings)[0]
    return torch.cat([w.flatten() for tree in (state.weights, *state.memory.values()) for w in tree.values()])


def test_every_method_has_a_page_and_every_page_a_method():
    pages = {path.stem for path in PAGES.glob("*.md")} - {"README"}
    assert pages == set(METHODS)
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\[(\w+)\]\(\1\.md\)", index) == list(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_pages_are_alike(name):
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {name}: ")
    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == SECTIONS


@pytest.mark.parametrize("name", METHODS)
def test_equations_are_set_apart_from_prose(name):
    """An indented line goes on with the paragraph above it, unless a blank line parts the two."""
    lines = (
        (PAGES / f"{name}.md")
        .read_text(encoding="utf-8")
        .split("## Equation")[1]
        .split("## What")[0]
        .splitlines()
    )
    follows = [above for above, line in pairwise(lines) if line.startswith("    ")]
    assert all(not above or above.startswith("    ") for above in follows)
    assert not any(re.match(r"(client i|server|s_k|g_i)\b", line) for line in lines)


@pytest.mark.parametrize("name", METHODS)
def test_defaults_on_the_page_are_the_defaults(name):
    assert torch.equal(weights(name, Settings()), weights(name, chosen(defaults(name))))


@pytest.mark.parametrize("name", METHODS)
def test_what_the_page_calls_a_setting_matters_and_none_means_none(name):
    page, base = defaults(name), weights(name, Settings())
    for role in ("client", "server"):
        other = named(page[role], scale=2.0) or optimizer("sgd", lr=0.5)
        differs = not torch.equal(weights(name, Settings(**{role: other})), base)
        assert differs == (page[role] != "none")
    if "h" in page:
        assert not torch.equal(weights(name, Settings(h=2 * float(page["h"]))), base)
    if "pool" in page:
        assert not torch.equal(weights(name, Settings(pool=2 * int(page["pool"]))), base)


@pytest.mark.parametrize("name", METHODS)
def test_who_trains_what(name):
    algorithm = method(name, problem.UNITS, Settings())
    orders = algorithm.plan(algorithm.init(problem.weights()), CLIENTS, Key(0)).values()
    trained = [set(order.trained) for order in orders]
    names = set(problem.weights())
    split = defaults(name)["split"]
    assert all(t == names for t in trained) == (split == "`everything`")
    assert all(t == {"head.weight", "head.bias"} for t in trained) == (split == "`head_only`")


@pytest.mark.parametrize("name", METHODS)
def test_the_configuration_has_the_same_defaults(name):
    page, config = defaults(name), Config().method
    assert int(page.get("count", 1)) == config.count
    assert page.get("directions", "`gaussian`") == f"`{config.directions}`"
    assert page.get("checkpoint", "true") == str(config.checkpoint).lower()
    assert page.get("slopes_only", "false") == str(config.slopes_only).lower()
    assert page.get("exact_head", "true") == str(config.exact_head).lower()
    assert float(page.get("threshold", 0.1)) == pytest.approx(config.threshold)
    assert config.h is None and config.difference is None  # the method's own
