"""The page of Flow is what its results say, and its counts of instances add up."""

from __future__ import annotations

import json

import pytest
from benchmarks.routing import counted
from benchmarks.routing_page import PAGE, PICTURE, RESULTS, page


def read():
    return json.loads(RESULTS.read_text(encoding="utf-8"))


def test_the_committed_page_is_written_from_the_results():
    assert PAGE.read_text(encoding="utf-8") == page(read()), "run python -m benchmarks.routing_page"
    assert PICTURE.is_file()


def test_instances_add_up_to_the_accuracies():
    for arms in read()["seeds"].values():
        for client in arms["flow"]["per_client"]:
            count, held = client["own_details"]["instances"], client["held_out"]
            assert sum(count.values()) == held
            alone = {
                who: sum(n for name, n in count.items() if name.startswith(("both", who)))
                for who in ("global", "local")
            }
            assert max(alone.values()) <= held - count.get("neither right, local asked", 0)
            assert alone["local"] / held == pytest.approx(client["after"])
            local = sum(n for name, n in count.items() if name.endswith("local asked"))
            assert local / held == pytest.approx(client["own_details"]["local_share"])


def test_instances_are_counted_by_who_is_right_and_who_is_asked():
    details = {
        "gates": [0.9, 0.2, 0.6, 0.5, 0.9], "global_right": [1, 1, 0, 0, 1], "local_right": [1, 0, 1, 0, 1],
        "local_share": 0.6, "either_right": 0.8,
    }  # fmt: skip
    assert counted(details)["instances"] == {
        "both right, local asked": 2, "global alone right, global asked": 1,
        "local alone right, local asked": 1, "neither right, global asked": 1,
    }  # fmt: skip
