"""Comparisons of schema 2, read as if they had been written today.

Then budgets limited the wall time of clients, which depends on what else the machine did, and nothing was known of
operations and processor time. What was limited by wall time is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNKNOWN: Mapping[str, None] = {"operations": None, "cpu_seconds": None}


def without_wall_time(comparison: Mapping[str, Any]) -> dict[str, Any]:
    if comparison.get("schema", 1) > 2 or not comparison.get("views"):
        return dict(comparison)
    views = comparison["views"]
    target = views["target"]
    return {
        **comparison,
        "views": {
            **views,
            "budget": _budget(views["budget"]),
            "target": target and {**target, "rows": [{**UNKNOWN, **row} for row in target["rows"]]},
        },
    }


def _budget(view: Mapping[str, Any]) -> dict[str, Any]:
    limits = {name: limit for name, limit in view["budget"].items() if name != "client_seconds"}
    rows = []
    for row in view["rows"]:
        kept = {name: value for name, value in row.items() if not name.startswith("within_")}
        within = row["within_bytes"]
        rows.append({
            **kept,
            "within_operations": None,
            "within_bytes_per_client": within,
            "within_cpu_seconds": None,
            "within_all": within if row["fits"] else None,
        })
    return {"budget": {**UNKNOWN, **limits}, "rows": rows}
