"""Methods that join a comparison of the convergence benchmark replace their own rows and leave the others."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def convergence(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import convergence

    return convergence


def comparison(value, *methods):
    """Everything said of a method is the value."""
    rows = [{"method": method, "value": value, "after": [8 * value, 16 * value]} for method in methods]
    views = {
        "equal_rounds": {"rounds": [8, 16], "rows": rows},
        "budget": {"budget": {"client_seconds": 1.0, "bytes_per_client": float(value)}, "rows": rows},
        "target": {"target": 0.5 * value, "rows": rows},
    }
    made = {"date": f"2026-01-0{value}"}
    return {
        "provenance": made,
        "rows": rows,
        "views": views,
        "tuning": {"points": 2, "methods": dict.fromkeys(methods, value)},
    }


def test_rows_join_in_order_and_limits_stay(convergence):
    known, new = comparison(1, "fedavg", "spry"), comparison(2, "spry", "head_only")
    found = convergence._joined(known, new, ["head_only", "fedavg", "spry"])
    wanted = [("head_only", 2), ("fedavg", 1), ("spry", 2)]
    tables = (found, *(found["views"][name] for name in ("equal_rounds", "budget", "target")))
    for part in tables:
        assert [(row["method"], row["value"]) for row in part["rows"]] == wanted
    assert found["views"]["target"]["target"] is known["views"]["target"]["target"]
    assert found["views"]["budget"]["budget"] == {"client_seconds": 1.0, "bytes_per_client": 1.0}
    assert found["tuning"]["methods"] == {"fedavg": 1, "spry": 2, "head_only": 2}


def test_what_joins_is_held_to_the_limits_of_what_is_there(convergence):
    assert convergence._held_to(None) == {}
    known = comparison(3, "fedavg")
    held = convergence._held_to(known)
    assert held["target"] is known["views"]["target"]["target"]
    assert asdict(held["budget"]) == {
        "operations": None,
        "bytes_per_client": 3.0,
        "cpu_seconds": None,
        "peak_bytes_above_model": None,
    }


def test_looks_are_kept_where_both_looked(convergence):
    new = comparison(2, "spry")
    new["views"]["equal_rounds"]["rounds"] = [4, 16]
    found = convergence._joined(comparison(1, "fedavg"), new, ["fedavg", "spry"])
    assert found["views"]["equal_rounds"]["rounds"] == [16]
    assert [row["after"] for row in found["views"]["equal_rounds"]["rows"]] == [[16], [32]]
    assert found["provenance"]["date"] == "2026-01-02"
