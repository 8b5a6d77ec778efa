"""The methods' pages say how many bytes travel; the codec writes as many, besides an envelope with a line a tensor."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from tests.laws import problem
from tests.laws.test_methods import BUILT_IN

from spry.core.keys import Key
from spry.federated.methods import METHODS
from spry.wire.codec import encode_order, encode_reply

PAGES = Path(__file__).parents[2] / "docs" / "methods"
CLIENTS = [4, 0, 7, 2]
STEPS, COUNT = 3, 2
SLOPES = r"[Ww]ith `method\.send = \"slopes\"`"
ENVELOPE, TENSOR = 60, 30
"""Bytes at most, besides what is sent and for each tensor of it."""
HEADERS = 4
"""Bytes by which what stands around the numbers may differ in two precisions: longer lengths take a byte more."""
SENDING = [name for name in BUILT_IN if name != "local"]
"""All but the one whose page says that nothing is sent."""


def said(name: str) -> tuple[str, str, str]:
    """What a page says of the way down, of the way up, and of the way up with slopes alone."""
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    down, up = text.split("## What is sent")[1].split("## Cost")[0].split("Up: ")
    weights, *slopes = re.split(SLOPES, up)
    return down.split("bytes")[0], weights, slopes[0] if slopes else ""


def bytes_of(text: str, sizes: dict[str, int]) -> int:
    """Add up the formulas of a text, such as `4 (d_i + H)`."""
    found = re.findall(r"`4 ([^`]+)`", text)
    assert found
    factors = [re.sub(r"(?<=\w) (?=\w)", "*", formula) for formula in found]
    return 4 * sum(eval(formula, {}, sizes) for formula in factors)


def messages(name: str, dtype: torch.dtype = torch.float32, **options: str):
    """An order and its reply after each client's local steps, as bytes, with the sizes that formulas name."""
    chosen = {"num_directions": COUNT} if "num_directions" in METHODS[name].option_names else {}
    algorithm = METHODS[name](problem.UNITS, max_steps=STEPS, **chosen, **options)
    weights = {name: weight.to(dtype) for name, weight in problem.weights().items()}
    heads = {name for unit in problem.UNITS if unit.head for name in unit.names}
    numbers = {name: weight.numel() for name, weight in weights.items()}
    for client, order in algorithm.plan(algorithm.init(weights), CLIENTS, Key(0)).items():
        drawn = [problem.batch(10 * client + step) for step in range(STEPS)]
        batches = [problem.Batch(batch.x.to(dtype), batch.y) for batch in drawn]
        reply = algorithm.train(problem.loss_of, order, batches, 24).reply
        sizes = {
            "P": sum(numbers.values()),
            "H": sum(numbers[name] for name in heads),
            "d_i": sum(numbers[name] for name in order.trained if name not in heads),
            "T": STEPS,
            "K": chosen.get("num_directions", 1),
        }
        yield order, encode_order(order), encode_reply(reply, order), sizes


def check(name: str, up: str, **options: str) -> None:
    """Hold a page to the codec: a message in double precision is longer by exactly what is sent in single."""
    down = said(name)[0]
    both = (messages(name, dtype, **options) for dtype in (torch.float32, torch.float64))
    for (order, asked, answered, sizes), (_, asked_twice, answered_twice, _) in zip(*both, strict=True):
        for message, twice, text, names in (
            (asked, asked_twice, down, order.weights),
            (answered, answered_twice, up, order.trained),
        ):
            sent = bytes_of(text, sizes)
            assert 0 <= len(twice) - len(message) - sent <= HEADERS
            assert 0 < len(message) - sent < ENVELOPE + TENSOR * len(names)


@pytest.mark.parametrize("name", SENDING)
def test_what_the_page_says_is_sent_is_what_the_codec_writes(name):
    check(name, said(name)[1])


@pytest.mark.parametrize("name", [name for name in SENDING if said(name)[2]])
def test_and_with_slopes_alone(name):
    check(name, said("spry" if "as spry" in said(name)[2] else name)[2], send="slopes")
