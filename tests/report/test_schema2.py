"""Comparisons that limited wall time are still read; what that limited is left out."""

from __future__ import annotations

import json

from spry.report.comparison import comparison_tables


def score(mean):
    return {"score_mean": mean, "score_std": 0.0}


OLD = {
    "schema": 2,
    "score": {"name": "accuracy", "higher_is_better": True},
    "rows": [{"method": name, "checkpointing": None, "seeds": [0]} for name in ("spry", "fedavg")],
    "views": {
        "equal_rounds": {
            "rounds": [2],
            "rows": [{"method": name, "after": [score(0.6)]} for name in ("spry", "fedavg")],
        },
        "budget": {
            "budget": {"peak_bytes_above_model": 8 << 20, "client_seconds": 30.7, "bytes_per_client": 2048.0},
            "rows": [
                {"method": "spry", "peak_bytes_above_model": 7 << 20, "fits": True, "within_seconds": score(0.6),
                 "within_bytes": score(0.5), "within_all": score(0.5)},
                {"method": "fedavg", "peak_bytes_above_model": 9 << 20, "fits": False, "within_seconds": None,
                 "within_bytes": score(0.6), "within_all": None},
            ],
        },
        "target": {
            "target": 0.55,
            "rows": [
                {"method": name, "seeds": 1, "reached": 1, "rounds": 2.0, "client_seconds": seconds,
                 "bytes_per_client": 2048.0}
                for name, seconds in (("spry", 20.0), ("fedavg", 90.0))
            ],
        },
    },
    "tuning": None,
}  # fmt: skip


def test_a_comparison_of_schema_2_has_its_tables_without_limits_of_wall_time(tmp_path):
    (tmp_path / "comparison.json").write_text(json.dumps(OLD))
    _, budget, target = comparison_tables(tmp_path)
    assert budget.columns == (
        "method",
        "within 2 KiB per client",
        "within all",
        "peak memory above the model (limit 8 MiB)",
    )
    assert [[cell.text for cell in row[1:]] for row in budget.rows] == [
        ["50.0", "50.0", "7 MiB"],
        ["60.0", "–", "9 MiB (too much)"],
    ]
    assert [[cell.text for cell in row[2:]] for row in target.rows] == [
        ["–", "2 KiB", "–", "20.0 s"],
        ["–", "2 KiB", "–", "1 min 30 s"],
    ]
    assert not any(row[-1].best for row in target.rows)
