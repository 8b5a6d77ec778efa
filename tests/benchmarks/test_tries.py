"""The page of tries is what its results say, and every try ended as a user would want it to."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from benchmarks.tries import PAGE, RESULTS, TABLE, page

ROOT = Path(__file__).parents[2]
FOUND = json.loads(RESULTS.read_text(encoding="utf-8"))


def test_the_page_is_written_from_the_results():
    assert (ROOT / PAGE).read_text(encoding="utf-8") == page(FOUND)


def test_the_results_are_of_the_tries_in_the_table():
    asked = tomllib.loads(TABLE.read_text(encoding="utf-8"))["try"]
    assert [each["what"] for each in FOUND["tries"]] == [each["what"] for each in asked]
    assert sum("before" not in each for each in asked) >= 10


@pytest.mark.parametrize("tried", FOUND["tries"], ids=lambda tried: tried["what"])
def test_no_try_ends_in_a_trace(tried):
    assert not any("Traceback" in line for line in tried["output"])


def test_the_page_on_data_shows_what_a_try_printed():
    text = (ROOT / "docs/howto/own_data.md").read_text(encoding="utf-8")
    shown = text.partition("```text\n")[2].partition("```")[0].splitlines()
    (tried,) = (each for each in FOUND["tries"] if each["what"] == "settings without effect")
    assert len(shown) == 5 and set(shown) <= set(tried["output"])
