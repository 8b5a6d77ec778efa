"""What is said of the methods agrees with how they are composed."""

from __future__ import annotations

import inspect

import pytest

from spry.federated.methods import METHODS
from spry.federated.traits import STEPS
from spry.optim.named import OPTIMIZERS

WRITTEN = {
    "s.client or LOCAL": "adamw", "s.client or PLAIN": "sgd",
    "s.server or MEAN": "sgd", "s.server or GRADIENT": "sgd", "s.server or ADAPTIVE": "yogi",
}  # fmt: skip


def test_every_method_is_there():
    assert list(STEPS) == list(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_the_optimizers_are_those_of_the_composition(name):
    source = inspect.getsource(METHODS[name])
    found = {place.split(".")[1].split()[0]: kind for place, kind in WRITTEN.items() if place in source}
    assert (STEPS[name].client, STEPS[name].server) == (found.get("client"), found.get("server"))
    assert set(found.values()) <= set(OPTIMIZERS)
